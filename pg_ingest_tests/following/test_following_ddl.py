"""Tables whose columns change while their log is followed; they are read anew only if need be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.errors import MethodUnavailable
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

T = logged("t")


@pytest.fixture(params=["primary key", ""], ids=["key", "no_key"])
def shop(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Following]:
    """Table t with the rows 1 to 3, followed already."""
    database.execute(f"create table t (id int {request.param}, v varchar(10), n int)")
    database.execute("insert into t select i, 'v' || i, i from generate_series(1, 3) i")
    if not request.param:
        database.execute("alter table t replica identity full")
    with following(database, tmp_path) as found:
        found.sync(T)
        yield found


def run(shop: Following, *statements: str) -> str:
    """Run them, sync, and give the phase; what the source has is in the destination."""
    for statement in statements:
        shop.database.execute(statement)
    report = shop.sync(T)["t"].report
    assert report is not None
    names = [row[0] for row in shop.database.rows(COLUMNS)]
    columns = ", ".join(f'"{name}"' for name in names)
    stored = shop.rows(f"select {columns} from shop.t")
    assert stored == sorted(shop.database.rows(f"select {columns} from t"), key=repr)
    return report.phase


COLUMNS = """
select attname from pg_attribute where attrelid = 't'::regclass and attnum > 0 and not attisdropped
and attgenerated = '' order by attnum
"""


def test_an_added_column_is_null_where_rows_were_there(shop: Following) -> None:
    phase = run(
        shop,
        "update t set v = 'before' where id = 1",
        "alter table t add column extra text",
        "update t set extra = 'x' where id = 2",
        "insert into t values (4, 'w', 4, 'y')",
    )
    assert phase == "changes"


def test_an_added_column_with_a_default_has_it_in_all_rows(shop: Following) -> None:
    phase = run(
        shop,
        "delete from t where id = 3",
        "alter table t add column at date not null default '2024-02-29'",
        "alter table t alter column at set default '1999-01-01'",
        "insert into t values (4, 'w', 4)",
        "update t set n = 9 where id = 1",
    )
    assert phase == "changes"


def test_a_default_that_differs_from_row_to_row_means_reading_anew(shop: Following) -> None:
    phase = run(
        shop,
        "alter table t add column token uuid default gen_random_uuid()",
        "insert into t values (4, 'w', 4)",
    )
    assert phase == "snapshot"


def test_a_renamed_column_keeps_its_values(shop: Following) -> None:
    phase = run(
        shop,
        "update t set n = 7 where id = 1",
        "alter table t rename column v to title",
        "update t set n = 8 where id = 2",
    )
    assert phase == "changes"
    assert not shop.rows("select 1 from duckdb_columns() where column_name = 'v'")


def test_a_renamed_key_is_still_the_key(shop: Following) -> None:
    assert (
        run(
            shop,
            "alter table t rename column id to number",
            "update t set v = 'x' where number = 1",
            "delete from t where number = 2",
            "insert into t values (2, 'again', 2)",
        )
        == "changes"
    )


def test_a_dropped_column_stays_as_it_was(shop: Following) -> None:
    phase = run(
        shop,
        "alter table t drop column v",
        "update t set n = 8 where id = 2",
        "insert into t values (5, 5)",
    )
    assert phase == "changes"
    assert shop.rows("select v from shop.t where id = 3") == [("v3",)]


def test_a_name_that_comes_back_for_another_column_means_reading_anew(shop: Following) -> None:
    phase = run(
        shop,
        "alter table t drop column v",
        "alter table t add column v varchar(10)",
        "update t set n = 8 where id = 2",
    )
    assert phase == "snapshot"


def test_two_columns_that_swap_their_names_are_not_confused(shop: Following) -> None:
    shop.database.execute("alter table t add column w varchar(10)")
    run(shop, "update t set w = 'w' || id")
    run(
        shop,
        "alter table t rename column v to swap",
        "alter table t rename column w to v",
        "alter table t rename column swap to w",
        "update t set n = n + 1 where id = 1",
    )


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ("alter column v type varchar(20)", "changes"),
        ("alter column v type text", "changes"),
        ("alter column n type bigint", "snapshot"),
        ("alter column n type bigint using n * 100", "snapshot"),
        ("alter column v type text using upper(v)", "snapshot"),
        ("alter column n type text", "snapshot"),
    ],
)
def test_another_type(shop: Following, change: str, phase: str) -> None:
    assert run(shop, f"alter table t {change}", "update t set v = 'z' where id = 1") == phase


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("int", "-1", "oid"),
        ("oid", "1259", "regclass"),
        ("cidr", "'10.1.2.3'", "inet"),
        ("timestamp", "'2024-03-31 02:30'", "timestamptz"),
    ],
)
def test_another_form_of_the_same_bytes_means_reading_anew(
    shop: Following, before: str, value: str, after: str
) -> None:
    """The server need not rewrite the table for these, and yet all values read otherwise from then on."""
    shop.database.execute(f"alter table t add column x {before}")
    shop.database.execute(f"update t set x = {value}")
    shop.sync(T)
    with shop.database.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"alter table t alter column x type {after}")
    shop.database.execute("update t set n = 9 where id = 1")
    report = shop.sync(T)["t"].report
    assert report is not None
    assert report.phase == "snapshot"
    assert len(shop.rows("select distinct x from shop.t")) == 1


def test_several_shapes_between_two_syncs(shop: Following) -> None:
    phase = run(
        shop,
        "update t set v = 'a' where id = 1",
        "alter table t add column x int default 5",
        "insert into t values (10, 'b', 10)",
        "alter table t rename column x to y",
        "insert into t values (11, 'c', 11, 6)",
        "alter table t drop column n",
        "update t set y = 0 where id = 2",
    )
    assert phase in {"changes", "snapshot"}


def test_a_generated_column_is_left_out_and_said(shop: Following) -> None:
    if not shop.database.rows("select from pg_constraint where conrelid = 't'::regclass"):
        shop.database.execute("alter table t replica identity default")
        shop.database.execute("alter table t add primary key (id)")
    shop.database.execute("alter table t add column twice int generated always as (n * 2) stored")
    run(shop, "update t set n = 21 where id = 1")
    applied = shop.sync(T, reset=[T])["t"].report
    assert applied is not None
    assert any("twice" in note for note in applied.notes)
    run(shop, "update t set n = 22 where id = 1")


def test_another_replica_identity_means_reading_anew(shop: Following) -> None:
    run(shop, "alter table t replica identity full", "update t set n = 9 where id = 1")
    phase = run(
        shop,
        "alter table t drop constraint if exists t_pkey",
        "alter table t replica identity default",
        "alter table t add column nr serial primary key",
        "update t set v = 'x' where id = 1",
        "delete from t where id = 2",
    )
    assert phase == "snapshot"


def test_a_generated_column_that_would_stop_the_application_is_not_published(
    shop: Following,
) -> None:
    shop.database.execute("alter table t replica identity full")
    run(shop, "update t set v = 'x' where id = 1")
    shop.database.execute("alter table t add column twice int generated always as (n * 2) stored")
    applied = shop.apply(shop.capture(T), T)["t"]
    assert isinstance(applied.error, MethodUnavailable)
    assert "generated" in str(applied.error)
    shop.database.execute("update t set v = 'y' where id = 1")


GENERATED = "alter table t add column g int generated always as (n * 2) stored"


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        (["alter table t alter column n type int using n * 100"], "snapshot"),
        (["alter table t add column token uuid default gen_random_uuid()"], "snapshot"),
        (["alter table t drop column n", "alter table t add column n int default 9"], "snapshot"),
        ([GENERATED, "alter table t alter column g drop expression"], "snapshot"),
        (["alter table t add column extra int default 7"], "changes"),
        (["alter table t add column extra text", "alter table t rename v to w"], "changes"),
        (["alter table t alter column v type varchar(20)"], "changes"),
    ],
)
def test_an_alter_is_noticed_before_a_row_changes(
    shop: Following, change: list[str], phase: str
) -> None:
    assert run(shop, *change) == phase
    assert shop.sync(T)["t"].report is None


@pytest.mark.parametrize(
    "harmless", ["vacuum full t", "alter table t drop column v", GENERATED, "select 1"]
)
def test_what_changes_no_stored_value_is_no_reason_to_read(shop: Following, harmless: str) -> None:
    if harmless == GENERATED:
        shop.database.execute("alter table t replica identity nothing")
        shop.database.execute(
            "alter table t drop constraint if exists t_pkey, add primary key (id)"
        )
        shop.database.execute("alter table t replica identity default")
        shop.sync(T, reset=[T])
    shop.database.execute(harmless)
    assert shop.sync(T)["t"].report is None
    run(shop, "update t set n = 70 where id = 1")


def test_values_computed_anew_beside_changes_of_rows_in_one_transaction(shop: Following) -> None:
    with shop.database.connect(autocommit=False) as connection:
        connection.execute("update t set n = n + 1 where id = 1")
        connection.execute("alter table t alter column n type int using n * 10")
        connection.execute("insert into t values (4, 'w', 4)")
    assert run(shop) == "snapshot"


def test_names_that_are_swapped_in_one_transaction(shop: Following) -> None:
    shop.database.execute("alter table t add column w varchar(10)")
    run(shop, "update t set w = 'w' || id")
    with shop.database.connect(autocommit=False) as connection:
        for old, new in (("v", "swap"), ("w", "v"), ("swap", "w")):
            connection.execute(f"alter table t rename column {old} to {new}")
    run(shop)


def test_a_generated_column_that_becomes_a_plain_one_brings_its_values(shop: Following) -> None:
    shop.database.execute("alter table t replica identity nothing")
    shop.database.execute("alter table t drop constraint if exists t_pkey, add primary key (id)")
    shop.database.execute("alter table t replica identity default")
    shop.database.execute(GENERATED)
    shop.sync(T, reset=[T])
    change = "alter table t alter column g drop expression"
    assert run(shop, change, "update t set n = 9 where id = 1") == "snapshot"


def test_a_publication_with_generated_columns_brings_none(
    database: Database, tmp_path: Path
) -> None:
    database.execute(f"create table t (id int primary key, n int); {GENERATED}")
    database.execute("insert into t values (1, 1), (2, 2)")
    database.execute(
        "create publication followed for table t with (publish_generated_columns = stored)"
    )
    with following(database, tmp_path) as found:
        found.sync(T)
        assert (
            run(found, "update t set n = 3 where id = 1", "insert into t values (3)") == "changes"
        )
        assert not found.rows("select 1 from duckdb_columns() where column_name = 'g'")
        change = "alter table t alter column g drop expression"
        assert run(found, change, "update t set g = 8 where id = 1") == "snapshot"


@pytest.mark.parametrize("write", ["select 1", "update t set n = 9 where id = 1"])
def test_a_default_that_only_the_partitions_keep(
    database: Database, tmp_path: Path, write: str
) -> None:
    database.execute(
        "create table t (id int primary key, n int) partition by range (id);"
        " create table t1 (gone int, n int, id int primary key); alter table t1 drop column gone;"
        " alter table t attach partition t1 for values from (0) to (10);"
        " insert into t values (1, 1), (2, 2)"
    )
    with following(database, tmp_path) as shop:
        shop.sync(T)
        added = "alter table t add column z int default 7, add column y text"
        assert run(shop, added, write) == "changes"
        younger = "create table t2 partition of t for values from (10) to (20)"
        assert run(shop, younger, "insert into t values (11, 1, 2, 'w')") == "changes"
        alone = "alter table only t alter column z set default 8"
        assert run(shop, alone, "alter table t add column x int default 3", write) == "changes"
