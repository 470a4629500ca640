"""A source with a slot, its change log, and an independent record of the same changes."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pg_ingest.changelog.capture import Captured, capture
from pg_ingest.changelog.join import join_slot
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.config.log import Reader
from pg_ingest.postgres.plugin import PgOutput
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.slot import locked_slot
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.decode.pgoutput_reference import Reference, read_all
from pg_ingest_tests.postgres.conftest import server_for

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Logged:
    """A database whose changes are captured; `witness` is a second slot that nobody advances."""

    database: Database
    server: Server
    log: ChangeLog
    slot: str

    @property
    def witness(self) -> str:
        return self.slot + "_witness"

    def execute(self, *statements: str) -> None:
        with self.database.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def begin(self) -> None:
        """Create publication and slots."""
        self.execute("create publication p for all tables")
        with self.server.session(self.database.name) as session, locked_slot(session, self.slot):
            join_slot(session, self.log, self.slot)
        self.execute(f"select pg_create_logical_replication_slot('{self.witness}', 'pgoutput')")

    def capture(self) -> Captured:
        self.execute("select pg_switch_wal()")  # flushes what asynchronous commits left behind
        with self.server.session(self.database.name) as session, locked_slot(session, self.slot):
            return capture(
                session, self.log, PgOutput("p"), join_slot(session, self.log, self.slot)
            )

    def expected(self) -> Reference:
        """Everything since `begin`, decoded by the plain decoder."""
        messages = self.database.rows(
            "select data from pg_logical_slot_peek_binary_changes(%s, null, null, 'proto_version', '1',"
            " 'publication_names', 'p')",
            self.witness,
        )
        return read_all([bytes(message) for (message,) in messages])

    def changes(self, table: str) -> pl.DataFrame:
        return self.log.changes(TableId("public", table))

    def check(self, *tables: str) -> None:
        """The change log holds exactly what the witness tells."""
        rows = self.expected().rows
        for table in tables:
            expected = [row for shape, row in rows if shape[2] == table]
            found = self.changes(table).to_dicts()
            assert [_known(row) for row in found] == [_known(row) for row in expected]

    def check_prefix(self, table: str) -> None:
        """What is in the change log is how the witness begins."""
        expected = [_known(row) for shape, row in self.expected().rows if shape[2] == table]
        found = [_known(row) for row in self.changes(table).to_dicts()]
        assert found == expected[: len(found)]

    def await_unlocked(self) -> None:
        """Wait until the server has noticed that a killed client is gone."""
        with self.database.connect() as connection:
            connection.execute(
                "select pg_advisory_lock(classid::int8 << 32 | objid::int8) from pg_locks"
                " where locktype = 'advisory' and database = (select oid from pg_database"
                " where datname = current_database())"
            )
            reading = (
                "select from pg_replication_slots where slot_name = %s and active_pid is not null"
            )
            deadline = time.monotonic() + 30
            while connection.execute(reading, (self.slot,)).fetchall():
                assert time.monotonic() < deadline, "the slot is still being read"
                connection.execute("select pg_sleep(0.02)")

    def confirmed(self, slot: str) -> str:
        ((lsn,),) = self.database.rows(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s", slot
        )
        return str(lsn)

    def drop(self, slot: str) -> None:
        self.database.rows(
            "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
            " where slot_name = %s and active_pid is not null",
            slot,
        )
        self.database.rows(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s",
            slot,
        )


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Without the columns that this row's shape did not have (null in a frame over all shapes)."""
    return {name: value for name, value in row.items() if value is not None}


@pytest.fixture(params=list(Reader))
def logged(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Logged]:
    found = Logged(
        database,
        server_for(database, log={"reader": request.param}),
        ChangeLog(tmp_path, "shop", database.name),
        f"log_{os.getpid()}_{next(_numbers)}",
    )
    yield found
    found.drop(found.slot)
    found.drop(found.witness)
