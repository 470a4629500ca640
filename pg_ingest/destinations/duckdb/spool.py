"""A chunk's rows on their way, in a file without a name.

Rows come from the source as fast as it sends them, while the DuckDB file may be in use by others. So they
wait in a file beside it, on the disk that must have room for them anyway. The file has no name, so a process
that dies leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from pg_ingest.batch import Batch
from pg_ingest.destinations.duckdb.intake import Intake


class SpooledChunk:
    """All rows of a chunk."""

    def __init__(self, file: IO[bytes], schema: pa.Schema, intake: Intake) -> None:
        self.rows = intake.rows
        self.bytes = intake.bytes
        self.rejected = intake.rejected
        self.schema = schema
        self._file = file

    def batches(self) -> Iterator[Batch]:
        """The rows that can be stored."""
        self._file.seek(0)
        with pa.ipc.open_stream(pa.PythonFile(self._file, mode="r")) as reader:
            for rows in reader:
                # what is written of a schema is not all that is in it
                yield Batch(pa.RecordBatch.from_arrays(rows.columns, schema=self.schema))


@contextmanager
def spooled(
    beside: Path, target: str, schema: pa.Schema, batches: Iterator[Batch], max_rejected: int
) -> Iterator[SpooledChunk]:
    """Read all batches into a file in the folder of `beside`; raises what `batches` raises, OSError."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    intake = Intake(target, schema, batches, max_rejected)
    with tempfile.TemporaryFile(dir=beside.parent) as file:
        with pa.ipc.new_stream(pa.PythonFile(file, mode="w"), schema) as writer:
            for rows in intake.rows_as_they_come():
                writer.write_batch(rows)
        yield SpooledChunk(file, schema, intake)
