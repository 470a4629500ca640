"""Loads that come in chunks: a table that nobody reads yet, and a list of the chunks it holds.

Each chunk is one transaction: its rows, and a line in `_pgi.chunks` that says so. So whatever is killed, the
list is true: a chunk that is in it is stored, once, and one that is not is not there at all. The rows stand in
a table of the target's schema whose name begins with `_pgi_load_`, because that is where it can take the
target's name without being copied. What has changed since a chunk was read is applied to that table too
(`catch_up`), also by whole transactions with the bookmark up to which it was; then one transaction puts it in
the target's place and forgets the load.

The file is only held for these transactions: while a chunk is read from the source its rows wait in a file
of their own (`spool.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from pg_ingest.batch import AllKeys, Changes, Everything, Keys, LoadReport, Ranges, Reading
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.chunks import BegunLoad, ChunkedLoad
from pg_ingest.destinations.destination import LoadReportDraft, StreamId, Target
from pg_ingest.destinations.duckdb import chunk_ledger, columns, faults, ownership, tables
from pg_ingest.destinations.duckdb.arrival import Arrival
from pg_ingest.destinations.duckdb.commit import apply
from pg_ingest.destinations.duckdb.file import DuckDbFile
from pg_ingest.destinations.duckdb.intake import Intake
from pg_ingest.destinations.duckdb.key_ranges import replace_ranges
from pg_ingest.destinations.duckdb.rejected import forget_answered
from pg_ingest.destinations.duckdb.spool import SpooledChunk
from pg_ingest.destinations.duckdb.stage import DuckDbStage, roll_back
from pg_ingest.destinations.duckdb.statement import Sql, identifier, literal, sql
from pg_ingest.destinations.duckdb.tables import Stored

_ARRIVALS = "_pgi_arrivals"


@dataclass(frozen=True, slots=True)
class DuckDbChunks:
    """The unfinished loads of one DuckDB file; see `destinations.chunks.KeepsChunks`."""

    file: DuckDbFile

    def all(self) -> list[ChunkedLoad]:
        """All unfinished loads. Makes no file."""
        doing = faults.translated(self.file.path, "read the loads")
        with self.file.reading() as connection, doing:
            return [] if connection is None else chunk_ledger.loads(connection)

    def begin(
        self, stream: StreamId, target: Target, schema: pa.Schema, begun: BegunLoad
    ) -> ChunkedLoad:
        """An empty table, and a line that says what it is for; an unfinished load of the stream goes."""
        columns.check_names(str(target), schema)
        load_id = uuid.uuid4().hex
        with self._transaction(f"begin to load {target}") as connection:
            chunk_ledger.prepare(connection)
            ownership.claim(connection, stream, target)
            chunk_ledger.drop(connection, stream)
            _make(connection, target, chunk_ledger.PREFIX + load_id, schema)
            chunk_ledger.write_load(connection, load_id, stream, target, begun)
            (load,) = [one for one in chunk_ledger.loads(connection) if one.id == load_id]
            return load

    def keep(
        self,
        load: ChunkedLoad,
        number: int,
        received: SpooledChunk,
        max_rejected: int,
        notes: Sequence[str],
    ) -> bool:
        """One chunk, one transaction; False when it was stored before."""
        with self._transaction(f"store a chunk of {load.target}") as connection:
            chunk_ledger.check(connection, load)
            if chunk_ledger.is_stored(connection, load, number):
                return False
            intake = Intake(str(load.target), received.schema, received.batches(), 0)
            connection.register(_ARRIVALS, intake.reader())
            connection.execute(
                sql(
                    "INSERT INTO {table} BY NAME SELECT {columns} FROM {arrivals}",
                    table=chunk_ledger.table_of(load),
                    columns=columns.projection(received.schema),
                    arrivals=identifier(_ARRIVALS),
                )
            )
            chunk_ledger.reject(connection, load, received.rejected, max_rejected)
            rows = received.rows + received.rejected.num_rows
            chunk_ledger.write_chunk(connection, load, number, rows, received.bytes, notes)
            return True

    def notes(self, load: ChunkedLoad) -> list[str]:
        """What was noted beside the chunks that are stored."""
        doing = faults.translated(self.file.path, "read what is noted of a load")
        with self.file.reading() as connection, doing:
            if connection is None:
                return []
            chunk_ledger.check(connection, load)
            return chunk_ledger.read_notes(connection, load)

    def catch_up(self, load: ChunkedLoad, reading: Reading, max_rejected: int) -> None:
        """Apply later changes to the rows kept; one transaction with the reading's bookmark."""
        assert isinstance(reading.scope, Keys | AllKeys | Changes | Ranges)
        name = f"_pgi_stage_{uuid.uuid4().hex}"
        with self._transaction(f"bring {load.target} up to date") as connection:
            chunk_ledger.check_caught_up(connection, load)
            intake = Intake(str(load.target), reading.schema, reading.batches, max_rejected)
            _take(connection, load.target, name, reading.schema, intake)
            table = tables.find(connection, load.target.schema, chunk_ledger.PREFIX + load.id)
            stage = tables.find(connection, load.target.schema, name)
            assert table is not None and stage is not None and reading.bookmark is not None
            now = columns.timestamp(datetime.now(UTC).isoformat())
            stream, target = load.stream, load.target
            arrival = Arrival(connection, stream, target, stage, intake.rows, table, True, now)
            forget_answered(arrival, reading.scope, intake.rejected, chunk_ledger.rejects_of(load))
            if isinstance(reading.scope, Ranges):
                replace_ranges(arrival, reading.scope)
            else:
                apply(arrival, reading.scope)
            chunk_ledger.reject(connection, load, intake.rejected, max_rejected)
            chunk_ledger.write_caught_up(connection, load, reading.bookmark)

    def publish(
        self,
        load: ChunkedLoad,
        schema: pa.Schema,
        scope: Everything,
        bookmark: Bookmark,
        report: LoadReportDraft,
    ) -> LoadReport:
        """The table takes the target's place, and the load is over; one transaction."""
        with self.file.writing() as connection:
            stage = DuckDbStage(connection, self.file.path, load.stream, load.target, schema)
            try:
                with faults.translated(self.file.path, f"store {load.target}"):
                    connection.execute("BEGIN TRANSACTION")
                    chunk_ledger.check(connection, load)
                    rejected = chunk_ledger.rejected_rows(connection, load)
                    stage.adopt(_ready(connection, load), rejected)
                    chunk_ledger.forget(connection, load.id)
                return stage.commit(scope, bookmark, report)
            finally:
                if not stage.committed:
                    roll_back(connection)

    def drop(self, stream: StreamId) -> None:
        """Throw an unfinished load away."""
        if any(load.stream == stream for load in self.all()):
            with self._transaction(f"give up a load of {stream}") as connection:
                chunk_ledger.drop(connection, stream)

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.file.writing() as connection:
            try:
                with faults.translated(self.file.path, doing):
                    connection.execute("BEGIN TRANSACTION")
                    yield connection
                    connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise


def _make(
    connection: duckdb.DuckDBPyConnection, target: Target, name: str, schema: pa.Schema
) -> None:
    connection.execute(
        sql("CREATE SCHEMA IF NOT EXISTS {schema}", schema=identifier(target.schema))
    )
    connection.register(_ARRIVALS, columns.wire_schema(schema).empty_table())
    connection.execute(
        sql(
            "CREATE TABLE {table} AS SELECT {columns}, NULL::TIMESTAMPTZ AS {synced} FROM {arrivals}",
            table=identifier(target.schema, name),
            columns=columns.projection(schema),
            synced=identifier(columns.SYNCED_AT),
            arrivals=identifier(_ARRIVALS),
        )
    )


def _take(
    connection: duckdb.DuckDBPyConnection,
    target: Target,
    name: str,
    schema: pa.Schema,
    intake: Intake,
) -> None:
    """All that `intake` brings, as a table."""
    connection.register(_ARRIVALS, intake.reader())
    try:
        connection.execute(
            sql(
                "CREATE TABLE {stage} AS SELECT {columns} FROM {arrivals}",
                stage=identifier(target.schema, name),
                columns=columns.projection(schema),
                arrivals=identifier(_ARRIVALS),
            )
        )
    except duckdb.Error:
        fault, intake.fault = intake.fault, None
        if fault is not None:
            raise fault from None
        raise


def _ready(connection: duckdb.DuckDBPyConnection, load: ChunkedLoad) -> Stored:
    """The table with the columns that a stage has, no more and no less."""
    parts = {
        "table": chunk_ledger.table_of(load),
        "synced": identifier(columns.SYNCED_AT),
        "name": identifier(columns.DATABASE),
        "database": literal(load.stream.database),
    }
    connection.execute(sql("ALTER TABLE {table} DROP COLUMN {synced}", **parts))
    if ownership.claim(connection, load.stream, load.target).shared:
        add: Sql = sql("ALTER TABLE {table} ADD COLUMN {name} VARCHAR DEFAULT {database}", **parts)
        connection.execute(add)
        connection.execute(sql("ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT", **parts))
    found = tables.find(connection, load.target.schema, chunk_ledger.PREFIX + load.id)
    assert found is not None
    return found
