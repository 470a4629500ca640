"""A source database, a DuckDB file, and a table that is replicated from one to the other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.bookmark import Bookmark, KeyBasedBookmark
from pg_ingest.config.model import Limits, Method, SourceConfig
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster
from pg_ingest.destinations.destination import StreamId
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres import row_versions
from pg_ingest.postgres.server import Server
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database

_numbers = itertools.count(1)


@dataclass
class Pair:
    """A source database beside a destination file; `sync` replicates a table of schema public."""

    database: Database
    path: Path

    def server(self, user: str = "", **limits: Any) -> Server:
        config = SourceConfig(
            host=self.database.host,
            port=self.database.port,
            user=user or self.database.user,
            databases=(self.database.name,),
            limits=Limits(**limits),
        )
        return Server("shop", config)

    @property
    def destination(self) -> DuckDbDestination:
        return DuckDbDestination(self.path)

    def sync(self, replication: Replication, *, user: str = "", **options: Any) -> LoadReport:
        options = {"max_rejected": 0, **options}
        return replicate(
            self.server(user), self.destination, replication, self.database.name, **options
        )

    def bookmark(self, replication: Replication) -> Bookmark | None:
        table = replication.table
        stream = StreamId("shop", self.database.name, table.schema, table.name)
        return self.destination.bookmark(stream)

    def position(self, replication: Replication) -> str | None:
        bookmark = self.bookmark(replication)
        assert isinstance(bookmark, KeyBasedBookmark)
        return bookmark.position

    def stored(self, replication: Replication, columns: str = "") -> list[tuple[Any, ...]]:
        """Rows in the destination, as texts, in order."""
        name = f'"shop"."{replication.target_table}"'
        with closing(duckdb.connect(str(self.path), read_only=True)) as connection:
            if not columns:
                found = connection.execute(f"describe {name}").fetchall()
                columns = ", ".join(
                    f'"{row[0]}"::varchar' for row in found if not row[0].startswith("_pgi_")
                )
            return sorted(connection.execute(f"select {columns} from {name}").fetchall(), key=repr)

    def source(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the source, as texts, in order."""
        with self.database.connect(options="-c timezone=UTC") as connection:
            names = [
                column.name
                for column in connection.execute(f"select * from ({query}) q limit 0").description
                or ()
            ]
            texts = ", ".join(f'"{name}"::text' for name in names)
            return sorted(
                connection.execute(f"select {texts} from ({query}) q").fetchall(), key=repr
            )


@pytest.fixture(scope="module")
def shared_database(cluster: Cluster) -> Iterator[Database]:
    """One database for a module's tests: making one takes longer than most tests do."""
    name = f"methods{os.getpid()}_{next(_numbers)}"
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute(f"create database {name} template template0")
    yield Database(name, cluster.host, cluster.port, cluster.user)
    admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def pair(shared_database: Database, tmp_path: Path) -> Pair:
    """An empty schema public and no destination yet."""
    shared_database.execute(
        "drop schema public cascade; create schema public; grant usage on schema public to public"
    )
    return Pair(shared_database, tmp_path / "warehouse.duckdb")


@pytest.fixture
def flushed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a position by xmin would wait for the server's WAL writer; see `test_xmin_crash.py`."""
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)


def full(table: str, **settings: Any) -> Replication:
    return _replication(table, Method.FULL_TABLE, settings)


def keyed(table: str, replication_key: str, **settings: Any) -> Replication:
    return _replication(table, Method.KEY_BASED, {"replication_key": replication_key, **settings})


def by_xmin(table: str, **settings: Any) -> Replication:
    return _replication(table, Method.XMIN, settings)


def delta(table: str, **settings: Any) -> Replication:
    return _replication(table, Method.DELTA_SNAPSHOT, settings)


def differing(table: str, **settings: Any) -> Replication:
    return _replication(table, Method.SNAPSHOT_DIFF, settings)


def _replication(table: str, method: Method, settings: dict[str, Any]) -> Replication:
    return Replication(
        source="shop",
        table=TableId("public", table),
        method=method,
        target_schema="shop",
        target_table=table,
        **settings,
    )
