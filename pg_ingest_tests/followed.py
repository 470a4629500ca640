"""A source database whose log is followed into a DuckDB file, and how the two are compared."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.destination import StreamId
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.following.apply_log import Applied, apply_log
from pg_ingest.following.capture_log import LogCapture, capture_log
from pg_ingest.following.load_log import ApplySettings
from pg_ingest.postgres.server import Server
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for

_numbers = itertools.count(1)


def logged(table: str, **settings: Any) -> Replication:
    """`public.<table>` into `shop.<table>` by the log."""
    return Replication(
        source="shop",
        table=TableId("public", table),
        method=Method.LOG_BASED,
        target_schema="shop",
        target_table=table,
        **settings,
    )


@dataclass
class Following:
    """One database, its change log and its destination below `folder`."""

    database: Database
    folder: Path
    patience: float = 5.0
    limits: dict[str, Any] = field(default_factory=lambda: {"lock_timeout": 5})
    slot: str = field(default_factory=lambda: f"f_{os.getpid()}_{next(_numbers)}")
    publication: str = "followed"
    reader: str = "sql"
    warehouse: str = "warehouse.duckdb"
    plugin: str = "pgoutput"
    log: dict[str, Any] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        log = {"slot": self.slot, "publication": self.publication, "reader": self.reader}
        log["plugin"] = self.plugin
        return server_for(self.database, log={**log, **self.log}, limits=self.limits)

    @property
    def path(self) -> Path:
        return self.folder / self.warehouse

    @property
    def destination(self) -> DuckDbDestination:
        return DuckDbDestination(self.path, patience=self.patience)

    @property
    def changelog(self) -> ChangeLog:
        return ChangeLog(self.folder, "shop", self.database.name)

    def flush(self) -> None:
        """Let everything that has committed be seen by readers of the log."""
        self.database.execute("select case when not pg_is_in_recovery() then pg_switch_wal() end")

    def capture(self, *tables: Replication) -> LogCapture:
        self.flush()
        return capture_log(self.server, self.folder, self.database.name, tables)

    def apply(
        self,
        capture: LogCapture,
        *tables: Replication,
        reset: Sequence[Replication] = (),
        max_rejected: int = 0,
        progress: Callable[..., None] | None = None,
    ) -> dict[str, Applied]:
        settings = ApplySettings(max_rejected, {one.table for one in reset}, progress=progress)
        done = apply_log(self.server, self.destination, self.folder, capture, tables, settings)
        return {one.replication.table.name: one for one in done}

    def sync(self, *tables: Replication, **options: Any) -> dict[str, Applied]:
        """Capture and apply all; an error of a table is raised."""
        applied = self.apply(self.capture(*tables), *tables, **options)
        for one in applied.values():
            if one.error is not None:
                raise one.error
        return applied

    def bookmark(self, table: Replication) -> LogBasedBookmark:
        stream = StreamId("shop", self.database.name, table.table.schema, table.table.name)
        bookmark = self.destination.bookmark(stream)
        assert isinstance(bookmark, LogBasedBookmark)
        return bookmark

    def stored(self, table: str, where: str = "true") -> list[tuple[Any, ...]]:
        """The table's rows in the destination as texts, without our own columns."""
        with closing(duckdb.connect(str(self.path), read_only=True)) as connection:
            found = connection.execute(f'describe shop."{table}"').fetchall()
            names = ", ".join(
                f'"{row[0]}"::varchar' for row in found if not row[0].startswith("_pgi_")
            )
            rows = connection.execute(f'select {names} from shop."{table}" where {where}')
            return sorted(rows.fetchall(), key=repr)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the destination answers, in a fixed order."""
        with closing(duckdb.connect(str(self.path), read_only=True)) as connection:
            return sorted(connection.execute(query).fetchall(), key=repr)

    def source(self, table: str, where: str = "true") -> list[tuple[Any, ...]]:
        """The table's rows in the source as texts."""
        with self.database.connect() as connection:
            cursor = connection.execute(f'select * from "{table}" limit 0')
            names = ", ".join(f'"{column.name}"::text' for column in cursor.description or ())
            rows = connection.execute(f'select {names} from "{table}" where {where}')
            return sorted(rows.fetchall(), key=repr)

    def check(self, *tables: Replication) -> None:
        """Source and destination are equal as multisets."""
        for table in tables:
            assert self.stored(table.table.name) == self.source(table.table.name)

    def drop(self) -> None:
        self.database.rows(
            "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
            " where slot_name = %s and active_pid is not null",
            self.slot,
        )
        self.database.rows(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where slot_name = %s",
            self.slot,
        )


@contextmanager
def following(database: Database, folder: Path, **options: Any) -> Iterator[Following]:
    """The slot is dropped at the end, so that the database can be too."""
    found = Following(database, folder, **options)
    try:
        yield found
    finally:
        found.drop()
