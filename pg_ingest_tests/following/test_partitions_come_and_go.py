"""Partitions that are attached, detached, emptied and made anew under a table that the log follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

T = logged("t")

MADE = """
create table t (id int primary key, v text) partition by range (id);
create table t1 partition of t for values from (0) to (100);
create table t2 partition of t for values from (100) to (200);
insert into t select g, 'x' from generate_series(0, 199, 10) g;
"""
APART = "create table t3 (id int not null, v text); insert into t3 values (250, 'apart')"
ATTACH = "alter table t attach partition t3 for values from (200) to (300)"


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute(MADE)
    with following(database, tmp_path) as found:
        found.sync(T)
        yield found


def notes(shop: Following) -> str:
    """Sync, compare, and what was said about it."""
    report = shop.sync(T)["t"].report
    shop.check(T)
    return "" if report is None else " ".join(report.notes)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([APART, ATTACH], "attached with rows: public.t3"),
        ([f"begin; {APART}; {ATTACH}; commit"], "attached with rows: public.t3"),
        (
            [
                APART,
                "insert into t3 values (251, 'b')",
                ATTACH,
                "update t set v = 'y' where id = 250",
            ],
            "attached with rows: public.t3",
        ),
        (["alter table t detach partition t2"], "detached or dropped: 1"),
        (["drop table t1"], "detached or dropped: 1"),
        (["truncate t1"], "truncated or rewritten: 1"),
        (
            [
                "alter table t detach partition t1",
                "delete from t1 where id = 50",
                "alter table t attach partition t1 for values from (0) to (100)",
            ],
            "detached or dropped: 1; attached with rows: public.t1",
        ),
        (
            [
                "create table s (id int not null, v text) partition by range (id)",
                "create table s1 partition of s for values from (200) to (300)",
                "insert into s values (220, 'below')",
                "alter table t attach partition s for values from (200) to (400)",
            ],
            "attached with rows: public.s1",
        ),
    ],
    ids=lambda value: "" if isinstance(value, list) else value.replace(" ", "_"),
)
def test_the_log_does_not_tell_so_the_table_is_read_anew(
    shop: Following, database: Database, statements: list[str], reason: str
) -> None:
    for statement in statements:
        database.execute(statement)
    assert reason in notes(shop)
    database.execute("update t set v = 'later'")
    assert notes(shop) == ""


@pytest.mark.parametrize(
    "statements",
    [
        ["create table t3 partition of t for values from (200) to (300)"],
        [
            "create table t3 partition of t for values from (200) to (300)",
            "insert into t values (201, 'a'), (202, 'b')",
            "update t set v = 'c' where id = 202",
        ],
        [
            "begin; create table t3 partition of t for values from (200) to (300);"
            " insert into t values (201, 'same transaction'); commit"
        ],
        ["create table t3 (id int not null, v text)", ATTACH, "insert into t values (299, 'q')"],
        [
            "create table t3 (id int not null, v text)",
            f"begin; {ATTACH}; insert into t values (299, 'q'); commit",
        ],
    ],
    ids=[
        "made",
        "made_and_written",
        "in_one_transaction",
        "attached_empty",
        "attached_and_written",
    ],
)
def test_a_partition_that_came_empty_is_followed(
    shop: Following, database: Database, statements: list[str]
) -> None:
    for statement in statements:
        database.execute(statement)
    assert notes(shop) == ""
    database.execute("alter table t add note text")
    database.execute("update t set note = 'n' where id = 10")
    assert "read anew" not in notes(shop)
    assert len(shop.bookmark(T).partitions) == 3


def test_a_partition_of_which_a_row_is_locked(shop: Following, database: Database) -> None:
    """`cmin` cannot be believed any more, so the table is read anew, which is only slow."""
    database.execute(
        "begin; create table t3 partition of t for values from (200) to (300);"
        " insert into t values (201, 'a'); commit"
    )
    with database.connect(autocommit=False) as other:
        other.execute("select from t where id = 201 for update")
    assert "attached with rows: public.t3" in notes(shop)
