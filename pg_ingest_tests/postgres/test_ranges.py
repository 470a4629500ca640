"""Ranges of a key hold each row once, whatever the key is made of and however it is ordered."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.ranges import KeyRange, PageRange, key_ranges, page_ranges
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for

KEYS = {
    "integers": ("id int", "select g from generate_series(-500, 499) g"),
    "texts, odd ones": (
        "id text",
        "select v from unnest(array['', ' ', 'a''b', 'a\"b', E'\\\\', 'é', 'Z', '%s', E'\\n']) v"
        " union all select 't' || g from generate_series(1, 991) g",
    ),
    "another collation": (
        'id text collate "C"',
        "select case when g % 2 = 0 then 'a' else 'B' end || g from generate_series(1, 1000) g",
    ),
    "uuids": ("id uuid", "select gen_random_uuid() from generate_series(1, 1000) g"),
    "times": (
        "id timestamptz",
        "select case g when 1 then '-infinity' when 2 then 'infinity' else"
        " timestamptz '2024-01-01' + g * interval '1 second 1 microsecond' end"
        " from generate_series(1, 1000) g",
    ),
    "floats": ("id float8", "select sqrt(g) from generate_series(1, 1000) g"),
    "numerics": ("id numeric", "select g / 7.0 from generate_series(1, 1000) g"),
    "fixed width": ("id char(9)", "select 'x' || g from generate_series(1, 1000) g"),
    "two columns, few first": (
        "id int, name text",
        "select g % 3, 'n' || g from generate_series(1, 1000) g",
    ),
    "intervals": ("id interval", "select g * interval '7 hours' from generate_series(1, 1000) g"),
    "bytes": ("id bytea", "select decode(md5(g::text), 'hex') from generate_series(1, 1000) g"),
    "an enumeration": (
        "id mood, n int",
        "select enum_range(null::mood))[1 + g % 3], g from generate_series(1, 1000) g",
    ),
}


def read(session: Session, table: Table, each: KeyRange | PageRange) -> list[bytes]:
    query = select_rows(table, table.columns, bounds=[each])
    with session.copy(query) as stream:
        return b"".join(iter(lambda: bytes(stream.read(1 << 20)), b"")).splitlines()


def described(database: Database, columns: str, rows: str) -> str:
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    database.execute("drop table if exists keyed; drop type if exists mood")
    database.execute("create type mood as enum ('sad', 'ok', 'happy')")
    database.execute(f"create table keyed ({columns}, primary key ({names}))")
    database.execute(f"insert into keyed {rows.replace('enum_range(', '(enum_range(')}")
    return names


@pytest.fixture(scope="module")
def keyed(cluster: Cluster) -> Iterator[tuple[Database, Session]]:
    """A database of its own for all kinds of keys, one after the other."""
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    name = f"keyed{os.getpid()}"
    admin.execute(f"create database {name} template template0")
    database = Database(name, cluster.host, cluster.port, cluster.user)
    with server_for(database).session(name) as opened:
        yield database, opened
    admin.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize("kind", KEYS)
def test_each_row_is_in_one_range(keyed: tuple[Database, Session], kind: str) -> None:
    database, session = keyed
    described(database, *KEYS[kind])
    table = describe(session, TableId("public", "keyed"))
    columns = [table.column(name) for name in table.primary_key]
    ranges = key_ranges(session, table, columns, 10)
    assert len(ranges) == 10
    parts = [read(session, table, each) for each in ranges]
    assert [len(part) for part in parts] == [100] * 10 or kind == "texts, odd ones"
    rows = [row for part in parts for row in part]
    assert sorted(rows) == sorted(read(session, table, KeyRange(tuple(columns), None, None)))


def test_pages_of_a_table_that_grows(database: Database, session: Session) -> None:
    database.execute("create table t (id int, v text)")
    table = describe(session, TableId("public", "t"))
    assert page_ranges(session, table, 4) == (PageRange(0, None),)
    database.execute("insert into t select g, repeat('x', 99) from generate_series(1, 2000) g")
    ranges = page_ranges(session, table, 4)
    assert len(ranges) == 4
    database.execute("insert into t select g, repeat('x', 99) from generate_series(1, 2000) g")
    assert sum(len(read(session, table, each)) for each in ranges) == 4000


def test_an_empty_table_is_one_range(database: Database, session: Session) -> None:
    database.execute("create table t (id int primary key)")
    table = describe(session, TableId("public", "t"))
    assert len(key_ranges(session, table, table.columns, 7)) == 1
