"""A publication that did not carry a table for a while is noticed, although it looks as before."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged

A, B, P = logged("a"), logged("b"), logged("p")


@pytest.mark.parametrize(
    "statements",
    [
        (
            "alter publication followed drop table a",
            "update a set v = 'y'",
            "alter publication followed add table only a",
        ),
        (
            "alter publication followed set (publish = 'insert')",
            "update a set v = 'y'",
            "alter publication followed set (publish = 'insert, update, delete, truncate')",
        ),
        (
            "alter publication followed rename to another; update a set v = 'y'",
            "alter publication another rename to followed",
        ),
    ],
    ids=["table", "operations", "name"],
)
def test_a_publication_that_looks_as_before(
    database: Database, tmp_path: Path, statements: tuple[str, ...]
) -> None:
    database.execute("create table a (id int primary key, v text)")
    database.execute("insert into a values (1, 'x'), (2, 'x')")
    with following(database, tmp_path) as shop:
        shop.sync(A)
        for statement in statements:
            database.execute(statement)
        shop.sync(A)
        shop.check(A)
        database.execute("update a set v = 'z' where id = 1")
        report = shop.sync(A)["a"].report
        assert report is not None
        assert report.phase == "changes"
        shop.check(A)


@pytest.mark.parametrize("scope", ["all tables", "tables in schema public", "table a, p"])
def test_somebody_elses_publication(database: Database, tmp_path: Path, scope: str) -> None:
    """Made anew under the same name: whatever was written meanwhile is read."""
    database.execute("create table a (id int primary key)")
    database.execute("create table p (id int primary key) partition by range (id)")
    database.execute("create table p1 partition of p for values from (0) to (100)")
    made = f"create publication followed for {scope} with (publish_via_partition_root)"
    database.execute(made)
    with following(database, tmp_path) as shop:
        shop.sync(A, P)
        database.execute("insert into a values (1); insert into p values (1)")
        applied = shop.sync(A, P)
        assert {one.report.phase for one in applied.values() if one.report} == {"changes"}
        shop.check(A, P)
        database.execute(
            "begin; drop publication followed; insert into a values (2); insert into p values (2);"
            f" {made}; commit"
        )
        shop.sync(A, P)
        shop.check(A, P)


def test_another_table_that_joins_or_leaves_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    database.execute("create table a (id int primary key); create table b (id int primary key)")
    with following(database, tmp_path) as shop:
        shop.sync(A)
        for tables in ((A, B), (A,)):
            database.execute("insert into a select count(*) from a")
            report = shop.sync(*tables)["a"].report
            assert report is not None
            assert report.phase == "changes"
            shop.check(A)


def test_a_partitioned_table_whose_identity_partitions_do_not_inherit(
    database: Database, tmp_path: Path
) -> None:
    """We do not publish it; one that is published is followed with a word, until the application would fail."""
    database.execute(
        "create table p (id int) partition by range (id); alter table p replica identity full;"
        "create table p1 partition of p for values from (0) to (10); alter table p1 replica identity full"
    )
    with following(database, tmp_path) as shop:
        refused = shop.capture(P).failures[P.table]
        assert "partitions to come" in refused.message
        added = f"alter publication {refused.hint.partition('ALTER PUBLICATION ')[2]}"
        database.execute(added)
        database.execute("insert into p values (1)")
        assert any("partitions to come" in note for note in shop.capture(P).notes)
        shop.sync(P)
        shop.check(P)
        database.execute("create table p2 partition of p for values from (10) to (20)")
        database.execute("insert into p values (11)")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            database.execute("update p set id = 12 where id = 11")
        gone = shop.capture(P)
        assert "no usable replica identity (partition public.p2)" in gone.failures[P.table].message
        database.execute("update p set id = 12 where id = 11")
        database.execute("alter table p2 replica identity full")
        database.execute(added)
        shop.sync(P)
        shop.check(P)
