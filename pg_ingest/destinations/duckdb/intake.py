"""Batches in, one Arrow stream out, and beside it what an Arrow stream cannot carry.

DuckDB pulls the stream while it runs one long statement, and wraps whatever goes wrong in there in
an error of its own. So the first exception is kept here and raised again as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pg_ingest.batch import REJECTED_SCHEMA, Batch
from pg_ingest.destinations.duckdb import columns
from pg_ingest.destinations.duckdb.widest import Widest
from pg_ingest.errors import TooManyRejected


class Intake:
    """Counts what passes and keeps rejected rows, at most `max_rejected` of them."""

    def __init__(
        self, target: str, schema: pa.Schema, batches: Iterator[Batch], max_rejected: int
    ) -> None:
        self.rows = 0
        self.bytes = 0
        self.fault: BaseException | None = None
        self.widest = Widest()
        self._target = target
        self._schema = schema
        self._batches = batches
        self._max_rejected = max_rejected
        self._rejected: list[pa.RecordBatch] = []
        self._rejected_rows = 0

    @property
    def rejected(self) -> pa.Table:
        """The rejected rows so far, schema REJECTED_SCHEMA."""
        return pa.Table.from_batches(self._rejected, schema=REJECTED_SCHEMA)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as a stream, to be read once."""
        schema = columns.wire_schema(self._schema)
        return pa.RecordBatchReader.from_batches(schema, self._stream(schema))

    def _stream(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self._keep(batch)
                self.widest = self.widest.or_in(batch.rows)
                yield pa.RecordBatch.from_arrays(batch.rows.columns, schema=schema)
        except BaseException as error:
            self.fault = error
            raise

    def adopt(self, rejected: pa.Table) -> None:
        """These were rejected before."""
        self._rejected += rejected.to_batches()
        self._rejected_rows += rejected.num_rows

    def rows_as_they_come(self) -> Iterator[pa.RecordBatch]:
        """The rows, for somebody else than DuckDB: errors are raised as they are."""
        for batch in self._batches:
            self._keep(batch)
            yield batch.rows

    def _keep(self, batch: Batch) -> None:
        if not batch.rows.schema.equals(self._schema):
            raise ValueError(f"{self._target}: a batch has other columns than were announced")
        self.rows += batch.rows.num_rows
        self.bytes += batch.size
        if batch.rejected is None or not batch.rejected.num_rows:
            return
        self._rejected.append(batch.rejected)
        self._rejected_rows += batch.rejected.num_rows
        if self._rejected_rows > self._max_rejected:
            raise TooManyRejected(
                f"{self._target}: {self._rejected_rows} rows cannot be stored,"
                f" more than limits.max_rejected ({self._max_rejected})",
                detail=self._reasons(),
                hint="exclude the column, or raise limits.max_rejected: the rows then go to _pgi.rejected",
            )

    def notes(self) -> tuple[str, ...]:
        """What to tell about rejected rows."""
        if not self._rejected_rows:
            return ()
        rows = "row was" if self._rejected_rows == 1 else "rows were"
        return (
            f"{self._rejected_rows} {rows} set aside in _pgi.rejected, not stored: {self._reasons()}",
        )

    def _reasons(self) -> str:
        """Why rows were rejected, the first five reasons; no values."""
        named = self.rejected.group_by(["column", "reason"]).aggregate([([], "count_all")])
        return "; ".join(
            f"{row['column']}: {row['reason']} ({row['count_all']} ×)"
            for row in named.slice(0, 5).to_pylist()
        )
