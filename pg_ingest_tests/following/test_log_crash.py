"""Killed at every durable step, at the first sync and at a later one: nothing is lost, nothing doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest_tests import log_crash
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following
from pg_ingest_tests.servers import needs_system_server
from pg_ingest_tests.sigkill import run_killed

KEYED, PLAIN = log_crash.TABLES


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    yield from _followed(database, tmp_path, "pgoutput")


@pytest.fixture
def through_wal2json(wal2json_database: Database, tmp_path: Path) -> Iterator[Following]:
    yield from _followed(wal2json_database, tmp_path, "wal2json")


def _followed(database: Database, folder: Path, plugin: str) -> Iterator[Following]:
    database.execute("create table keyed (id int primary key, v text)")
    database.execute("create table plain (id int, v text)")
    database.execute("alter table plain replica identity full")
    with following(database, folder, plugin=plugin) as found:
        yield found


def work(shop: Following, first: int) -> None:
    """Small and large transactions, all kinds of changes, doubles in the table without a key."""
    with shop.database.connect() as connection:
        for table in ("keyed", "plain"):
            for n in range(first, first + 20):
                connection.execute(f"insert into {table} values ({n}, 'one')")
            connection.execute(
                f"insert into {table} select n, 'many' from generate_series({first + 20}, {first + 400}) n"
            )
            connection.execute(f"update {table} set v = 'changed' where id % 7 = 0")
            connection.execute(f"delete from {table} where id % 5 = 0")
        connection.execute(f"insert into plain select id, v from plain where id < {first + 20}")
        connection.execute(f"update keyed set id = id + 100000 where id = {first + 1}")


def killed(shop: Following, step: str, when: str, number: int) -> None:
    """Run a sync that dies there."""
    database = shop.database
    place = [database.host, str(database.port), database.user, database.name]
    arguments = [*place, str(shop.folder), shop.slot, shop.plugin, step, when, str(number)]
    shop.flush()
    run_killed(log_crash, arguments, database)


FIRST = [
    ("publish", "after", 1),
    ("create slot", "after", 1),
    ("manifest", "after", 1),
    ("forget", "after", 1),
    ("snapshot", "before", 1),
    ("stage", "after", 1),
    ("apply", "after", 1),
    ("commit", "after", 1),
    ("commit", "after", 2),
]


@pytest.mark.parametrize(("step", "when", "number"), FIRST)
def test_the_first_sync(shop: Following, step: str, when: str, number: int) -> None:
    work(shop, 0)
    killed(shop, step, when, number)
    work(shop, 1000)
    shop.sync(KEYED, PLAIN)
    work(shop, 2000)
    shop.sync(KEYED, PLAIN)
    shop.check(KEYED, PLAIN)


LATER = [
    ("read", "after", 2),
    ("segment", "after", 1),
    ("manifest", "before", 2),
    ("manifest", "after", 2),
    ("advance", "before", 1),
    ("advance", "after", 2),
    ("apply", "after", 4),
    ("commit", "after", 1),
    ("commit", "after", 4),
]


@pytest.mark.parametrize(("step", "when", "number"), LATER)
def test_a_later_sync(shop: Following, step: str, when: str, number: int) -> None:
    work(shop, 0)
    shop.sync(KEYED, PLAIN)
    work(shop, 1000)
    killed(shop, step, when, number)
    work(shop, 2000)
    shop.sync(KEYED, PLAIN)
    shop.check(KEYED, PLAIN)
    assert {one.report for one in shop.sync(KEYED, PLAIN).values()} == {None}


@needs_system_server
@pytest.mark.parametrize(
    ("step", "when", "number"),
    [
        ("read", "after", 2),
        ("manifest", "before", 2),
        ("manifest", "after", 2),
        ("advance", "before", 1),
        ("commit", "after", 4),
    ],
)
def test_a_later_sync_through_wal2json(
    through_wal2json: Following, step: str, when: str, number: int
) -> None:
    test_a_later_sync(through_wal2json, step, when, number)


@needs_system_server
@pytest.mark.parametrize(("step", "when"), [("create slot", "after"), ("forget", "after")])
def test_the_first_sync_through_wal2json(through_wal2json: Following, step: str, when: str) -> None:
    test_the_first_sync(through_wal2json, step, when, 1)
