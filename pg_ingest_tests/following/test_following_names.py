"""A followed table is known by its oid: what was done to it under another name is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged

T = logged("t")


@pytest.mark.parametrize(
    "statements",
    [
        (
            "alter table t rename to t_in_work",
            "update t_in_work set v = 'y' where id = 1; insert into t_in_work values (3, 'z')",
            "alter table t_in_work rename to t",
        ),
        (
            "begin; alter table t rename to t_in_work; delete from t_in_work where id = 2;"
            " insert into t_in_work values (3, 'z'); alter table t_in_work rename to t; commit",
        ),
        (
            "create schema elsewhere; alter table t set schema elsewhere",
            "update elsewhere.t set v = 'y'",
            "alter table elsewhere.t set schema public",
        ),
        (
            "alter schema public rename to private; update private.t set v = 'y'",
            "alter schema private rename to public",
        ),
    ],
    ids=["renamed", "in_one_transaction", "moved", "schema"],
)
def test_a_table_that_had_another_name_for_a_while(
    database: Database, tmp_path: Path, statements: tuple[str, ...]
) -> None:
    database.execute("create table t (id int primary key, v text)")
    database.execute("insert into t values (1, 'x'), (2, 'x')")
    with following(database, tmp_path) as shop:
        shop.sync(T)
        for statement in statements:
            database.execute(statement)
        report = shop.sync(T)["t"].report
        assert report is not None
        assert report.phase == "changes"
        shop.check(T)


def test_a_column_that_is_left_out_stays_out_under_another_name(
    database: Database, tmp_path: Path
) -> None:
    table = logged("t", exclude_columns=("secret",))
    database.execute("create table t (id int primary key, secret text)")
    with following(database, tmp_path) as shop:
        shop.sync(table)
        database.execute("alter table t rename to t_in_work")
        database.execute("insert into t_in_work values (1, 'hidden')")
        database.execute("alter table t_in_work rename to t")
        shop.sync(table)
        assert shop.stored("t") == [("1",)]
        segments = list(shop.changelog.segment_folder.iterdir())
        assert segments
        assert not any(b"hidden" in segment.read_bytes() for segment in segments)


def test_two_tables_that_swap_their_names(database: Database, tmp_path: Path) -> None:
    a, b = logged("a"), logged("b")
    for name in "ab":
        database.execute(f"create table {name} (id int primary key, v text)")
        database.execute(f"insert into {name} select i, '{name}' from generate_series(1, 3) i")
    with following(database, tmp_path) as shop:
        shop.sync(a, b)
        database.execute("update a set v = 'a before' where id = 1")
        database.execute(
            "begin; alter table a rename to c; alter table b rename to a; alter table c rename to b;"
            " update a set v = 'b after' where id = 2; commit"
        )
        database.execute("delete from b where id = 3")
        shop.sync(a, b)
        shop.check(a, b)
        database.execute("update a set v = 'later'; update b set v = 'later too'")
        shop.sync(a, b)
        shop.check(a, b)
