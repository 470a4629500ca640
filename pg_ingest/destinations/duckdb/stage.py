"""One load: a transaction that begins before the first row is read and ends with the commit.

The stage is a table made inside that transaction. DuckDB writes its row groups to free blocks of the
file while they arrive (so memory stays bounded), but nothing points to them before the commit: a
process that dies at any moment leaves nothing behind, not even a stage to clean up, and the blocks are
used again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from pg_ingest.batch import Batch, Everything, LoadCounts, LoadReport, Scope
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.destination import LoadReportDraft, StreamId, Target
from pg_ingest.destinations.duckdb import chunk_ledger, columns, faults, ledger, ownership, tables
from pg_ingest.destinations.duckdb.arrival import Arrival, Change
from pg_ingest.destinations.duckdb.commit import apply
from pg_ingest.destinations.duckdb.intake import Intake
from pg_ingest.destinations.duckdb.rejected import forget_answered
from pg_ingest.destinations.duckdb.statement import identifier, literal, sql
from pg_ingest.destinations.duckdb.tables import Stored

_ARRIVALS = "_pgi_arrivals"


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """End the transaction, if it was begun and DuckDB has not ended it already by an error of its own."""
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        connection.close()


class DuckDbStage:
    """Rows in a table of their own that only this transaction sees."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        path: Path,
        stream: StreamId,
        target: Target,
        schema: pa.Schema,
    ) -> None:
        self.rows = 0
        self.committed = False
        self._connection = connection
        self._path = path
        self._stream = stream
        self._target = target
        self._schema = schema
        self._name = f"_pgi_stage_{uuid.uuid4().hex}"

    def fill(self, batches: Iterator[Batch], max_rejected: int) -> None:
        """Begin the transaction and read all batches."""
        columns.check_names(str(self._target), self._schema)
        self._intake = Intake(str(self._target), self._schema, batches, max_rejected)
        with self._translated("stage"):
            self._connection.register(_ARRIVALS, self._intake.reader())
            self._connection.execute("BEGIN TRANSACTION")
            ledger.prepare(self._connection)
            self._owned = ownership.claim(self._connection, self._stream, self._target)
            self._read()
        self.rows = self._intake.rows

    def adopt(self, stage: Stored, rejected: pa.Table) -> None:
        """Take over rows that came before, in a transaction that has been begun, instead of `fill`."""
        columns.check_names(str(self._target), self._schema)
        self._name = stage.name
        self._intake = Intake(str(self._target), self._schema, iter(()), rejected.num_rows)
        self._intake.adopt(rejected)
        self._owned = ownership.claim(self._connection, self._stream, self._target)
        count = self._connection.execute(
            sql("SELECT count(*) FROM {stage}", stage=stage.sql)
        ).fetchone()
        assert count is not None
        self.rows = int(count[0])

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return faults.translated(
            self._path, f"{doing} {self._target}", lambda: str(self._intake.widest)
        )

    def _read(self) -> None:
        schema = identifier(self._target.schema)
        self._connection.execute(sql("CREATE SCHEMA IF NOT EXISTS {schema}", schema=schema))
        projection = columns.projection(self._schema)
        if self._owned.shared:
            projection = sql(
                "{columns}, {database} AS {name}",
                columns=projection,
                database=literal(self._stream.database),
                name=identifier(columns.DATABASE),
            )
        try:
            self._connection.execute(
                sql(
                    "CREATE TABLE {stage} AS SELECT {columns} FROM {arrivals}",
                    stage=identifier(self._target.schema, self._name),
                    columns=projection,
                    arrivals=identifier(_ARRIVALS),
                )
            )
        except duckdb.Error:
            fault, self._intake.fault = self._intake.fault, None
            if fault is not None:
                raise fault from None
            raise

    def commit(
        self, scope: Scope, bookmark: Bookmark | None, report: LoadReportDraft
    ) -> LoadReport:
        """Make the rows visible and store bookmark, report and rejected rows, in ONE transaction.

        Counts: a table replaced as a whole counts all its old rows as deleted and all its new ones as
        inserted, unless they are equal as multisets: then everything stays and all counts are 0. Keys
        count exactly. Raises KeyNotUnique and DestinationFailed; either way everything stays as it was.
        """
        with self._translated("store"):
            finished = self._apply(scope, bookmark, report)
            self._connection.execute("COMMIT")
            self.committed = True
        return finished

    def _apply(
        self, scope: Scope, bookmark: Bookmark | None, report: LoadReportDraft
    ) -> LoadReport:
        at = datetime.now(UTC)
        if report.continues is not None:
            ledger.check_bookmark(self._connection, self._stream, report.continues)
        notes = ownership.settle(self._connection, self._owned, scope)
        if chunk_ledger.drop(self._connection, self._stream):
            notes += ("an unfinished load in chunks was thrown away",)
        if chunk_ledger.drop_abandoned(self._connection, at):
            notes += ("unfinished loads of other tables, untouched for 30 days, were thrown away",)
        table = tables.find(self._connection, self._target.schema, self._target.table)
        arrival = self._arrival(table, at)
        forget_answered(arrival, scope, self._intake.rejected, ledger.rejects_of(self._stream))
        change = apply(arrival, scope)
        notes += tables.leave_out(self._connection, self._target, self._schema)
        tables.describe(self._connection, self._target, self._schema)
        finished = self._report(change, report, notes)
        entry = ledger.Entry(
            stream=self._stream,
            target=self._target,
            bookmark=bookmark,
            draft=report,
            at=at,
            rejected=self._intake.rejected,
            everything=isinstance(scope, Everything),
        )
        finished.extra["load_id"] = ledger.record(self._connection, entry, finished)
        return finished

    def _arrival(self, table: Stored | None, at: datetime) -> Arrival:
        stage = tables.find(self._connection, self._target.schema, self._name)
        assert stage is not None
        return Arrival(
            connection=self._connection,
            stream=self._stream,
            target=self._target,
            stage=stage,
            rows=self.rows,
            table=table,
            alone=self._owned.alone,
            at=columns.timestamp(at.isoformat()),
        )

    def _report(self, change: Change, draft: LoadReportDraft, notes: tuple[str, ...]) -> LoadReport:
        rejected = self._intake.rejected.num_rows
        return LoadReport(
            counts=LoadCounts(
                inserted=change.inserted,
                updated=change.updated,
                deleted=change.deleted,
                rejected=rejected,
                total=self._total(),
            ),
            rows_read=draft.rows_read or self.rows + rejected,
            bytes_read=draft.bytes_read or self._intake.bytes,
            duration_s=ledger.seconds_since(draft.started_at),
            phase=draft.phase,
            position_from=draft.position_from,
            position_to=draft.position_to,
            notes=(*draft.notes, *notes, *self._intake.notes(), *change.notes),
        )

    def _total(self) -> int:
        table = tables.find(self._connection, self._target.schema, self._target.table)
        assert table is not None
        return self._arrival_count(table)

    def _arrival_count(self, table: Stored) -> int:
        statement = sql("SELECT count(*) FROM {table}", table=table.sql)
        if table.has(columns.DATABASE):
            statement = sql(
                "{count} WHERE {column} = {database}",
                count=statement,
                column=identifier(columns.DATABASE),
                database=literal(self._stream.database),
            )
        row = self._connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])
