"""Columns are excluded, and let in again; the row filter becomes another one; tables are altered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pg_ingest.config.selection import Replication
from pg_ingest.config.table_config import PartitionBy
from pg_ingest.errors import DestinationFailed
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed

Sync = Callable[[Replication], list[str]]


@pytest.fixture(params=["full_table", "key_based", "xmin", "delta_snapshot", "snapshot_diff"])
def table(request: pytest.FixtureRequest) -> Replication:
    """Table `t` by each method that has no log."""
    makes: dict[str, Callable[..., Replication]] = {
        "full_table": full,
        "key_based": lambda name, **more: keyed(name, "id", **more),
        "xmin": by_xmin,
        "delta_snapshot": delta,
        "snapshot_diff": differing,
    }
    return makes[request.param]("t")


def people(database: Database) -> None:
    database.execute("create table t (id int primary key, name text, email text)")
    database.execute("insert into t select i, 'n' || i, 'e' || i from generate_series(1, 5) i")


def columns_of(path: Path) -> list[str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("describe shop.t").fetchall()
    return [row[0] for row in found if not row[0].startswith("_pgi_")]


@pytest.mark.parametrize("setting", ["exclude_columns", "columns"])
def test_an_excluded_column_goes_and_comes_back_whole(
    pair: Pair, table: Replication, setting: str
) -> None:
    people(pair.database)
    pair.sync(table)
    chosen: dict[str, Any] = {"exclude_columns": ("email",), "columns": ("id", "name")}
    without = replace(table, **{setting: chosen[setting]})
    pair.sync(without)
    assert columns_of(pair.path) == ["id", "name"]
    assert pair.stored(without) == pair.source("select id, name from t")
    said: list[str] = []
    report = pair.sync(table, say=said.append)
    assert pair.stored(table, "id::varchar, name, email") == pair.source("select * from t")
    if "again" in " ".join(report.notes):
        assert said


def test_a_column_that_was_dropped_at_the_source_is_not_excluded(pair: Pair) -> None:
    table = by_xmin("t", columns=("id", "name"))
    people(pair.database)
    pair.sync(table)
    pair.database.execute("alter table t drop column name")
    pair.sync(replace(table, columns=("id",)))
    assert columns_of(pair.path) == ["id", "name"]


def test_of_names_that_differ_by_case_only_the_other_is_excluded(pair: Pair) -> None:
    pair.database.execute('create table t (id int primary key, "A" text, a text)')
    pair.database.execute("insert into t values (1, 'out', 'in')")
    table = by_xmin("t", exclude_columns=("A",))
    for _ in range(2):
        pair.sync(table)
        assert pair.stored(table) == [("1", "in")]


def test_windows_lose_an_excluded_column_at_once(pair: Pair) -> None:
    pair.database.execute("create table t (id int, at date, secret text)")
    pair.database.execute("insert into t values (1, '2024-01-01', 'a'), (2, '2024-01-02', 'b')")
    days = [
        ("2024-01-01T00:00:00", "2024-01-02T00:00:00"),
        ("2024-01-02T00:00:00", "2024-01-03T00:00:00"),
    ]
    by_day = PartitionBy.model_validate({"column": "at", "every": "day", "start": "2024-01-01"})
    table = full("t", partition_by=by_day)
    for day in days:
        pair.sync(table, window=day)
    pair.sync(replace(table, exclude_columns=("secret",)), window=days[0])
    assert columns_of(pair.path) == ["id", "at"]


def test_a_shared_table_loses_it_though_no_row_is_written(pair: Pair) -> None:
    other = replace(pair, database=replace(pair.database, name="postgres"))
    table = full("t", shared=True)
    try:
        for each in (pair, other):
            people(each.database)
            each.sync(table)
        report = pair.sync(replace(table, exclude_columns=("email",)))
    finally:
        other.database.execute("drop table t")
    assert columns_of(pair.path) == ["id", "name"]
    assert any("dropped here: email" in note for note in report.notes)


def test_an_index_in_the_way_is_an_error_and_not_a_column_that_stays(pair: Pair) -> None:
    people(pair.database)
    table = by_xmin("t")
    pair.sync(table)
    with duckdb.connect(str(pair.path)) as connection:
        connection.execute("create index i on shop.t (email)")
    with pytest.raises(DestinationFailed):
        pair.sync(replace(table, exclude_columns=("email",)))


def test_the_log_leaves_an_excluded_column_out_and_brings_it_back(
    database: Database, tmp_path: Path
) -> None:
    people(database)
    without = logged("t", exclude_columns=("email",))
    with following(database, tmp_path) as found:
        found.sync(logged("t"))
        for wanted, columns in (
            (without, "id::text, name"),
            (logged("t"), "id::text, name, email"),
        ):
            report = found.sync(wanted)["t"].report
            assert report is not None
            assert report.phase == "snapshot"
            assert found.stored("t") == sorted(database.rows(f"select {columns} from t"))


def test_another_row_filter_brings_rows_and_takes_rows(pair: Pair, table: Replication) -> None:
    people(pair.database)
    filters = (None, "id < 4", "id > 2", None)
    for where in filters:
        said: list[str] = []
        filtered = replace(table, where=where)
        pair.sync(filtered, say=said.append)
        expected = pair.source(f"select * from t where {where or 'true'}")
        assert pair.stored(filtered) == expected
    if table.method != "full_table":
        assert any("row filter" in text for text in said)


@pytest.mark.parametrize(
    "alter",
    [
        ["alter table t alter column n type int using n * 100"],
        ["alter table t drop column n", "alter table t add column n int default 9"],
        [
            "alter table t rename n to x",
            "alter table t rename m to n",
            "alter table t rename x to m",
        ],
        ["alter table t alter column g set expression as (n * 3)"],
        ["alter table t alter column v set expression as (n * 3)"],
        ["alter table t alter column g drop expression"],
        ["alter table t add column token uuid default gen_random_uuid()"],
        ["alter table t alter column n type text using 'x' || n"],
        ["vacuum full t"],
    ],
    ids=lambda statements: statements[0][14:40],
)
@pytest.mark.parametrize("table", [keyed("t", "id"), by_xmin("t")], ids=["key_based", "xmin"])
def test_an_alter_that_computes_values_anew(
    pair: Pair, table: Replication, alter: list[str]
) -> None:
    pair.database.execute("create table t (id int primary key, n int, m int)")
    columns = "id, n, m"
    if "expression" in alter[0]:
        for column, kind in (("g", "stored"), ("v", "virtual")):
            pair.database.execute(
                f"alter table t add column {column} int generated always as (n * 2) {kind}"
            )
        columns += ", g, v"
    pair.database.execute("insert into t select i, i, -i from generate_series(1, 5) i")
    pair.sync(table)
    for statement in alter:
        pair.database.execute(statement)
    report = pair.sync(table)
    texts = ", ".join(f"{name.strip()}::varchar" for name in columns.split(","))
    assert pair.stored(table, texts) == pair.source(f"select {columns} from t")
    if alter == ["vacuum full t"] and table.method == "key_based":
        assert not any("again" in note for note in report.notes)
