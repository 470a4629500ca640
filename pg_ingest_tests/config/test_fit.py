"""Chosen tables that cannot be replicated as configured: each its own message."""

from __future__ import annotations

from typing import Any

import pytest

from pg_ingest.config.selection import Selection, select
from pg_ingest.errors import ConfigError
from pg_ingest.table import RelationKind, SourceCatalog, Table
from pg_ingest_tests.config.catalogs import catalog, relation
from pg_ingest_tests.config.conftest import source, table, whole

PATH = "sources.shop.tables.public.orders"
ORDERS = relation("public.orders", "at timestamptz", "note text")
KEYLESS = relation("public.orders", "at timestamptz", key="")
BY_KEY = {"method": "key_based", "replication_key": "at"}
WINDOW = {"every": "day", "start": "2024-01-01"}


def judged(load: Any, found: SourceCatalog, **settings: Any) -> Selection:
    return select(load(whole(sources={"shop": table(**settings)})).config, "shop", found)


def refused(load: Any, found: Table, **settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        judged(load, catalog(found), **settings)
    place, _, text = caught.value.detail.partition(" ")
    assert place.startswith("pg_ingest.yaml:")
    return text


@pytest.mark.parametrize(
    ("settings", "what", "column"),
    [
        ({"columns": ["id", "nota"]}, "columns", "nota"),
        ({"exclude_columns": ["nota"]}, "exclude_columns", "nota"),
        ({"key": ["nota"]}, "key", "nota"),
        ({**BY_KEY, "replication_key": "nota"}, "replication_key", "nota"),
        ({"partition_by": {**WINDOW, "column": "nota"}}, "partition_by", "nota"),
    ],
)
def test_unknown_columns(load: Any, settings: dict[str, Any], what: str, column: str) -> None:
    assert refused(load, ORDERS, **settings) == (
        f"{PATH}.{what}: public.orders has no column {column} — did you mean note?"
    )


def test_unknown_columns_like_nothing(load: Any) -> None:
    assert refused(load, ORDERS, key=["zzzz"]) == (
        f"{PATH}.key: public.orders has no column zzzz — it has id, at, note"
    )


@pytest.mark.parametrize("method", ["xmin", "delta_snapshot"])
def test_what_names_its_writer_and_has_a_key(load: Any, method: str) -> None:
    remedy = "name the columns that identify a row: `key: [id]`, or write `method: full_table`"
    assert refused(load, KEYLESS, method=method) == (
        f"{PATH}: public.orders is a table without a primary key, and {method} needs a key — {remedy}"
    )
    view = relation("public.orders", "at timestamptz", key="", kind=RelationKind.VIEW)
    assert refused(load, view, method=method, key=["at"]) == (
        f"{PATH}: public.orders is a view, whose rows do not say which transaction wrote them — "
        "write `method: full_table` or `method: key_based` for it, or exclude it"
    )


def test_delta_snapshot_takes_its_own_word_for_the_key(load: Any) -> None:
    settings = {"method": "delta_snapshot", "row_identifier_key": ["at"]}
    [replication] = judged(load, catalog(KEYLESS), **settings).replications
    assert replication.key == ("at",)
    assert replication.replicate_deletes
    [grouped] = judged(
        load, catalog(KEYLESS), method="delta_snapshot", update_key=["at"]
    ).replications
    assert (grouped.key, grouped.update_key) == ((), ("at",))


def test_key_based_needs_a_key(load: Any) -> None:
    remedy = "name the columns that identify a row: `key: [id]`, or write `method: full_table`"
    assert refused(load, KEYLESS, **BY_KEY) == (
        f"{PATH}: public.orders is a table without a primary key, and key_based needs a key — {remedy}"
    )
    view = relation("public.orders", "at timestamptz", key="", kind=RelationKind.VIEW)
    assert refused(load, view, **BY_KEY) == (
        f"{PATH}: public.orders is a view, and key_based needs a key — {remedy}"
    )
    assert judged(load, catalog(KEYLESS), **BY_KEY, key=["id"]).warnings == ()
    assert judged(load, catalog(KEYLESS)).warnings == ()


def test_the_primary_key_must_arrive(load: Any) -> None:
    assert refused(load, ORDERS, **BY_KEY, exclude_columns=["id"]) == (
        f"{PATH}: id of the primary key of public.orders is left out — add it to columns, or take it from "
        "exclude_columns"
    )
    assert judged(load, catalog(ORDERS), exclude_columns=["id"]).warnings == ()


@pytest.mark.parametrize(
    "kind",
    ["bool", "json", "jsonb", "bytea", "float8", "float4", "time", "interval", "point", "_int4", "mood",
     "oid", "money", "inet"],
)  # fmt: skip
def test_replication_keys_that_cannot_say_what_is_newer(load: Any, kind: str) -> None:
    found = relation("public.orders", f"at {kind}")
    assert refused(load, found, **BY_KEY) == (
        f"{PATH}.replication_key: public.orders.at is the type {kind}, which cannot say what is newer — name "
        "an integer, numeric, date or timestamp column, or write `method: full_table`"
    )


@pytest.mark.parametrize(
    "kind", ["int2", "int4", "int8", "numeric", "date", "timestamp", "timestamptz"]
)
def test_replication_keys_that_grow(load: Any, kind: str) -> None:
    found = catalog(relation("public.orders", f"at {kind}"))
    assert judged(load, found, **BY_KEY).warnings == ()


@pytest.mark.parametrize("kind", ["text", "varchar", "bpchar", "uuid"])
def test_replication_keys_that_may_grow_are_warned_about(load: Any, kind: str) -> None:
    found = catalog(relation("public.orders", f"at {kind}"))
    assert judged(load, found, **BY_KEY).warnings == (
        f"shop: public.orders: the replication key at is the type {kind}: only values that grow with time "
        "(ULID, UUID version 7) are found by it",
    )


def test_windows_need_a_moment(load: Any) -> None:
    window = {"partition_by": {**WINDOW, "column": "note"}}
    assert refused(load, ORDERS, **window) == (
        f"{PATH}.partition_by.column: public.orders.note is the type text, not a date or timestamp — name a "
        "date or timestamp column, or remove partition_by"
    )


def test_reserved_columns(load: Any) -> None:
    found = relation("public.orders", "_PGI_lsn int8")
    assert refused(load, found) == (
        f"{PATH}: public.orders has the column _PGI_lsn, and names that start with _pgi_ are reserved — leave "
        "it out: `exclude_columns: [_PGI_lsn]`"
    )
    assert judged(load, catalog(found), exclude_columns=["_PGI_lsn"]).replications


def test_columns_that_are_one_name_in_the_destination(load: Any) -> None:
    found = relation("public.orders", "Note text", "note text")
    assert refused(load, found) == (
        f"{PATH}: public.orders has the columns Note and note, one name in the destination — leave one out: "
        "`exclude_columns: [note]`"
    )
    assert judged(load, catalog(found), columns=["id", "note"]).replications


def test_no_column_left(load: Any) -> None:
    assert refused(load, relation("public.orders"), exclude_columns=["id"]) == (
        f"{PATH}: no column of public.orders is left — leave out fewer columns"
    )


@pytest.mark.parametrize(
    "kind", [RelationKind.VIEW, RelationKind.MATERIALIZED_VIEW, RelationKind.FOREIGN]
)
def test_views_write_no_log(load: Any, kind: RelationKind) -> None:
    assert refused(load, relation("public.orders", kind=kind), method="log_based") == (
        f"{PATH}: public.orders is a {kind}, which writes no log — write `method: full_table` or "
        "`method: key_based` for it, or exclude it"
    )


def test_a_fault_in_some_databases_only_is_a_warning(load: Any) -> None:
    found = catalog(a=[ORDERS], b=[KEYLESS])
    config = load(
        whole(sources={"shop": source(databases=["a", "b"], tables={"public.orders": BY_KEY})})
    ).config
    assert select(config, "shop", found).warnings == (
        f"in 1 of 2 databases {PATH}: public.orders is a table without a primary key, and key_based needs a "
        "key — name the columns that identify a row: `key: [id]`, or write `method: full_table`",
    )
