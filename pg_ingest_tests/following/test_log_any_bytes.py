"""A database of encoding SQL_ASCII: bytes that are no text set their row aside and do not stop the log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged

T, OTHER, BAG = logged("t"), logged("other"), logged("bag")


@pytest.fixture
def ascii_database(database: Database) -> Iterator[Database]:
    name = f"ascii_{os.getpid()}"
    database.execute(f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C'")
    yield replace(database, name=name)
    database.execute(f"drop database {name} with (force)")


def run(database: Database, *statements: bytes) -> None:
    with database.connect(client_encoding="SQL_ASCII") as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("reader", ["sql", "stream"])
def test_one_row_does_not_stop_the_log(
    ascii_database: Database, tmp_path: Path, reader: str
) -> None:
    run(
        ascii_database,
        b"create table t (id int primary key, v text); create table other (id int primary key)",
        b"create table bag (v text); alter table bag replica identity full",
    )
    with following(ascii_database, tmp_path, reader=reader) as shop:
        shop.sync(T, OTHER, BAG)
        run(
            ascii_database,
            b"insert into t values (1, 'good'), (2, 'bad \xe9'), (3, '\xc3\xa9'), (4, 'soon bad')",
            b"update t set v = '\xff' where id = 4; insert into other values (1)",
            b"insert into bag values ('\xe9'), ('\xc3\xa9'); update bag set v = 'x' where v = '\xe9'",
        )
        applied = shop.sync(T, OTHER, BAG, max_rejected=9)
        assert shop.rows("select id from shop.other") == [(1,)]
        assert shop.rows("select id, v from shop.t") == [(1, "good"), (3, "é")]
        assert shop.rows("select v from shop.bag") == [("x",), ("é",)]
        report = applied["t"].report
        assert report is not None
        assert report.counts.rejected == 2
        rejected = shop.rows('select reason, "row" from _pgi.rejected')
        assert any("not valid UTF-8" in reason and "\\\\xff" in row for reason, row in rejected)
        run(
            ascii_database,
            b"update t set v = 'good again' where id = 2; delete from t where id = 4",
            b"delete from bag where v = '\xc3\xa9'",
        )
        shop.sync(T, OTHER, BAG, max_rejected=9)
        assert shop.rows("select id, v from shop.t") == [(1, "good"), (2, "good again"), (3, "é")]
        assert shop.rows("select v from shop.bag") == [("x",)]
        assert shop.changelog.manifest() is not None


def test_without_permission_only_that_table_fails(ascii_database: Database, tmp_path: Path) -> None:
    run(
        ascii_database,
        b"create table t (id int primary key, v text); create table other (id int primary key)",
    )
    with following(ascii_database, tmp_path) as shop:
        shop.sync(T, OTHER)
        run(ascii_database, b"insert into t values (1, '\xff'); insert into other values (1)")
        applied = shop.apply(shop.capture(T, OTHER), T, OTHER)
        assert "not valid UTF-8" in str(applied["t"].error)
        assert applied["other"].error is None
        assert shop.rows("select id from shop.other") == [(1,)]
