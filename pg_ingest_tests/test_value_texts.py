"""Stored values that read otherwise although no row was written: labels of enums, altered composite types."""

from __future__ import annotations

from pathlib import Path

import pytest

from pg_ingest.config.selection import Replication
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, keyed

SETUP = """
create type mood as enum ('sad', 'ok');
create type inner_pair as (m mood, n int);
create domain moods as mood[];
create type pair as (a int, b inner_pair[], c moods);
create table t (id int primary key, m mood, p pair);
insert into t values (1, 'sad', row(1, array[row('sad', 1)::inner_pair], '{ok,sad}')), (2, 'ok', null);
"""

CHANGES = [
    "alter type mood rename value 'sad' to 'blue'",
    "alter type inner_pair add attribute more text",
    "alter type pair drop attribute a",
    "alter type mood rename value 'ok' to 'sad'",
]


@pytest.mark.parametrize(
    "replication", [by_xmin("t"), delta("t"), keyed("t", "id")], ids=["xmin", "delta", "key"]
)
def test_by_methods_without_a_log(
    database: Database, tmp_path: Path, replication: Replication
) -> None:
    database.execute(SETUP)
    pair = Pair(database, tmp_path / "warehouse.duckdb")
    pair.sync(replication)
    for change in CHANGES:
        database.execute(change)
        report = pair.sync(replication)
        assert any("read otherwise" in note for note in report.notes)
        assert pair.stored(replication) == pair.source("select * from t")
    database.execute("alter type mood add value 'new' before 'blue'")
    assert not pair.sync(replication).notes


def test_by_the_log(database: Database, tmp_path: Path) -> None:
    table = logged("t")
    database.execute(SETUP)
    with following(database, tmp_path) as shop:
        shop.sync(table)
        for change in CHANGES:
            database.execute(change)
            report = shop.sync(table)["t"].report
            assert report is not None
            assert report.phase == "snapshot"
            shop.check(table)
        database.execute("alter type mood add value 'new' before 'blue'")
        database.execute("update t set m = 'new' where id = 1")
        report = shop.sync(table)["t"].report
        assert report is not None
        assert report.phase == "changes"
        shop.check(table)
        database.execute("alter type mood rename value 'new' to 'old'")
        shop.sync(table)
        shop.check(table)


def test_a_column_that_came_later_counts_too(database: Database, tmp_path: Path) -> None:
    table = logged("t")
    database.execute("create type mood as enum ('sad', 'ok'); create table t (id int primary key)")
    with following(database, tmp_path) as shop:
        shop.sync(table)
        database.execute("alter table t add column m mood; insert into t values (1, 'sad')")
        shop.sync(table)
        database.execute("alter type mood rename value 'sad' to 'blue'")
        shop.sync(table)
        shop.check(table)
