"""The largest single value that a load has brought: what to name when DuckDB's memory does not hold it.

Batches have about 4 MB at most, unless one row alone has more. So only batches far above are looked at, and a
load of ordinary rows pays nothing. Sizes and names of columns are told, never values.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

LARGE_BATCH = 16 << 20
"""Bytes of a batch from which on it has a large row, or is one of the change log's."""


@dataclass(frozen=True, slots=True, order=True)
class Widest:
    """A value of `size` bytes in `column`."""

    size: int = 0
    column: str = ""

    def or_in(self, rows: pa.RecordBatch) -> Widest:
        """The larger one of this and of those in a batch, if the batch is a large one."""
        if rows.nbytes < LARGE_BATCH:
            return self
        columns = zip(rows.schema.names, rows.columns, strict=True)
        found = [Widest(_largest(column), name) for name, column in columns]
        return max([self, *found])

    def __str__(self) -> str:
        if not self.size:
            return ""
        return f"the largest value that was read is in column {self.column}: {self.size:,} bytes"


def _largest(column: pa.Array) -> int:
    of = column.type
    texts = pa.types.is_string(of) or pa.types.is_large_string(of)
    if not (texts or pa.types.is_binary(of) or pa.types.is_large_binary(of)):
        return 0
    return pc.max(pc.binary_length(column)).as_py() or 0
