"""Which tables are taken, how, and to where."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from pg_ingest.config.method import Method
from pg_ingest.config.selection import Selection, select, select_sources
from pg_ingest.errors import ConfigError
from pg_ingest.table import RelationKind, SourceCatalog, TableId
from pg_ingest_tests.config.catalogs import catalog, relation
from pg_ingest_tests.config.conftest import source, whole

ORDERS = relation("public.orders", "at timestamptz")
ITEMS = relation("public.items")
LOGS = relation("audit.logs")
VIEW = relation("public.v_sales", key="", kind=RelationKind.VIEW)
ROOT = relation("public.events", kind=RelationKind.PARTITIONED)
PART = relation("public.events_1", partition_root=TableId("public", "events"))
FOREIGN = relation("public.far", kind=RelationKind.FOREIGN)
ALL = catalog(LOGS, ROOT, PART, FOREIGN, ITEMS, ORDERS, VIEW)

Load = Any


def selected(load: Load, found: SourceCatalog | None, **changes: Any) -> Selection:
    changes.setdefault("naming", {"schema": "{source}_{schema}"})
    return select(load(whole(sources={"shop": source(**changes)})).config, "shop", found)


def names(load: Load, found: SourceCatalog | None, **changes: Any) -> list[str]:
    return [str(each.table) for each in selected(load, found, **changes).replications]


def refused(load: Load, found: SourceCatalog | None, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        selected(load, found, **changes)
    return [line.strip() for line in caught.value.detail.strip().splitlines()]


def test_exact_names_need_no_catalogue(load: Load) -> None:
    settings = {
        "method": "key_based",
        "key": ["id"],
        "replication_key": "at",
        "exclude_columns": ["note"],
        "where": "id > 5",
    }
    found = selected(load, None, tables={"public.b": settings, "public.a": {}})
    assert found.warnings == ()
    assert found.databases == ("shop",)
    assert not found.dynamic_databases
    first, second = found.replications
    assert first.asset_key == ("shop", "public", "a")
    assert (first.method, first.key, first.columns) == (Method.FULL_TABLE, (), None)
    assert second.method is Method.KEY_BASED
    assert (second.key, second.replication_key) == (("id",), "at")
    assert (second.exclude_columns, second.where) == (("note",), "id > 5")
    assert second.target_for("shop") == ("shop_public", "b")
    assert not second.shared


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"tables": {"public.*": {}, "public.orders": {}}}, "public.*"),
        ({"tables": {"public.orders": {}}, "select_all": True}, "select_all"),
    ],
)
def test_patterns_without_a_catalogue_select_nothing_and_say_so(
    load: Load, changes: dict[str, Any], what: str
) -> None:
    found = selected(load, None, **changes)
    assert [str(each.table) for each in found.replications] == ["public.orders"]
    assert found.warnings == (
        f"shop: {what} selects nothing yet, because the source was never discovered; "
        "run `pg-ingest discover`",
    )


def test_what_identifies_the_rows_of_a_delta_snapshot(load: Load) -> None:
    delta = {"method": "delta_snapshot"}
    tables = {
        "public.a": {**delta, "row_identifier_key": ["x", "y"], "replicate_deletes": False},
        "public.b": {**delta, "key": ["z"]},
        "public.c": {**delta, "update_key": ["g"]},
    }
    a, b, c = selected(load, None, tables=tables).replications
    assert (a.key, a.update_key, a.replicate_deletes) == (("x", "y"), (), False)
    assert (b.key, b.update_key, b.replicate_deletes) == (("z",), (), True)
    assert (c.key, c.update_key) == ((), ("g",))


def test_select_all_takes_tables_but_no_views_partitions_or_foreign_tables(load: Load) -> None:
    assert names(load, ALL, select_all=True, tables={}) == [
        "audit.logs",
        "public.events",
        "public.items",
        "public.orders",
    ]


def test_patterns_take_views_too(load: Load) -> None:
    assert names(load, ALL, tables={"public.*": {}}) == [
        "public.events",
        "public.items",
        "public.orders",
        "public.v_sales",
    ]


def test_exact_names_take_anything(load: Load) -> None:
    wanted = ["public.events_1", "public.far", "public.v_sales"]
    assert names(load, ALL, tables={name: {} for name in wanted}) == wanted


def test_exclude_wins_over_select_all_and_patterns(load: Load) -> None:
    assert "audit.logs" not in names(load, ALL, select_all=True, tables={}, exclude=["audit.*"])
    left = names(load, ALL, tables={"*": {}}, exclude=["audit.*", "public.orders"])
    assert left == ["public.events", "public.items", "public.v_sales"]


def test_exact_over_specific_over_general(load: Load) -> None:
    tables = {
        "*": {"where": "general"},
        "public.*": {"where": "schema"},
        "public.or*": {"where": "specific"},
        "public.items": {"where": "exact"},
    }
    found = selected(load, ALL, tables=tables, exclude=["public.v_sales"])
    assert {str(each.table): each.where for each in found.replications} == {
        "audit.logs": "general",
        "public.events": "schema",
        "public.items": "exact",
        "public.orders": "specific",
    }


def test_a_name_with_wildcards_in_it_is_itself_when_it_exists(load: Load) -> None:
    odd = relation("public.a[1]")
    assert names(load, catalog(odd, relation("public.a1")), tables={"public.a[1]": {}}) == [
        "public.a[1]"
    ]


def test_a_schema_with_a_dot_in_its_name(load: Load) -> None:
    dotted = replace(ITEMS, id=TableId("odd.schema", "items"))
    for how in ({"tables": {"odd.schema.items": {}}}, {"tables": {"odd*": {}}}):
        [found] = selected(load, catalog(dotted), **how).replications
        assert found.asset_key == ("shop", "odd.schema", "items")
        assert found.target_for("shop") == ("shop_odd.schema", "items")


def test_what_matches_nothing_is_refused(load: Load) -> None:
    tables = {"public.order": {}, "publik.*": {}, "public.events_1*": {}}
    told = refused(load, ALL, tables=tables, exclude=["audi.*", "audit.log"])
    again = "Else run `pg-ingest discover` when the source has changed"
    path = "pg_ingest.yaml:"
    assert [line.split(" ", 1)[1] for line in told] == [
        "sources.shop.tables.public.order: no such table or view was discovered — did you mean "
        f"public.orders? {again}",
        "sources.shop.tables.publik.*: the pattern matches no table — did you mean public.items? "
        + again,
        "sources.shop.tables.public.events_1*: the pattern matches no table — did you mean public.events? "
        + again,
        "sources.shop.exclude.0: matches no table (audi.*) — did you mean audit.logs? " + again,
        "sources.shop.exclude.1: no such table or view was discovered (audit.log) — did you mean audit.logs? "
        + again,
    ]
    assert all(line.startswith(path) for line in told)


def test_an_empty_catalogue(load: Load) -> None:
    assert refused(load, catalog()) == [
        "pg_ingest.yaml:12: sources.shop.tables.public.orders: no such table or view was discovered — nothing "
        "was discovered; run `pg-ingest discover` when the source has changed"
    ]


def test_nothing_like_it(load: Load) -> None:
    assert refused(load, catalog(ITEMS, LOGS), tables={"zz.zzzzz": {}})[0].endswith(
        "— discovered are audit.logs, public.items; run `pg-ingest discover` when the source has changed"
    )


def test_the_message_names_the_comparison(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        selected(load, catalog())
    assert caught.value.message == (
        "the configuration, compared with what was discovered, has 1 problem"
    )


def test_two_tables_of_a_pattern_meet(load: Load) -> None:
    found = catalog(relation("a.orders"), relation("b.orders"))
    [told] = refused(load, found, tables={"*": {}}, naming={"schema": "{source}"})
    assert told.endswith(
        "sources.shop.tables.*: b.orders would be stored under the same name as a.orders (shop.orders) — "
        'write `naming: {schema: "{source}_{schema}"}` below sources.shop'
    )


def test_tables_of_two_sources_meet(load: Load) -> None:
    naming = {"schema": "all"}
    config = load(
        whole(
            sources={
                "a": source(select_all=True, tables={}, naming=naming),
                "b": source(select_all=True, tables={}, naming=naming),
            }
        )
    ).config
    assert select(config, "a", catalog(ITEMS)).replications
    with pytest.raises(ConfigError) as caught:
        select_sources(config, {"a": catalog(ITEMS), "b": catalog(ITEMS)})
    assert caught.value.detail.endswith(
        "sources.b.select_all: public.items would be stored under the same name as public.items of a "
        '(all.items) — write `naming: {schema: "{source}"}` below sources.b'
    )
    both = select_sources(config, {"a": catalog(ITEMS), "b": catalog(LOGS)})
    assert sorted(both) == ["a", "b"]


def test_several_databases_share_a_table_or_have_their_own(load: Load) -> None:
    [shared] = selected(load, None, databases=["x", "y"]).replications
    assert shared.shared
    assert shared.target_for("x") == shared.target_for("y") == ("shop_public", "orders")
    [own] = selected(
        load, None, databases=["x", "y"], naming={"schema": "{source}_{database}"}
    ).replications
    assert not own.shared
    assert own.target_for("x") == ("shop_x", "orders")
    assert own.target_for("y") == ("shop_y", "orders")


def test_databases_by_pattern(load: Load) -> None:
    found = catalog(tenant_b=[ORDERS], tenant_a=[ORDERS, ITEMS], other=[LOGS])
    chosen = selected(
        load, found, databases=["main", "tenant_*", "nix_*"], select_all=True, tables={}
    )
    assert chosen.dynamic_databases
    assert chosen.databases == ("main", "tenant_b", "tenant_a")
    assert [str(each.table) for each in chosen.replications] == ["public.items", "public.orders"]
    assert all(each.shared for each in chosen.replications)
    again = "run `pg-ingest discover` for shop"
    assert set(chosen.warnings) == {
        f"shop: no discovered database fits main; {again}",
        f"shop: no discovered database fits nix_*; {again}",
    }
    assert selected(load, None, databases=["tenant_*"]).databases == ()


def test_a_fixed_database_that_was_not_discovered(load: Load) -> None:
    chosen = selected(load, catalog(ORDERS), databases=["shop", "new"])
    assert chosen.warnings == (
        "shop: the database new was not discovered; run `pg-ingest discover` for shop",
    )


def test_an_unknown_source(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        select(load(whole()).config, "shpo", None)
    assert (caught.value.message, caught.value.hint) == (
        "there is no source shpo",
        "did you mean shop?",
    )


def test_ten_thousand_tables_and_a_hundred_patterns(load: Load) -> None:
    found = catalog(*(relation(f"s{n % 100}.t{n}", "at timestamptz") for n in range(10_000)))
    tables = {f"s{n}.*": {"method": "key_based", "replication_key": "at"} for n in range(100)}
    config = load(whole(sources={"shop": source(tables=tables)})).config
    began = time.process_time()
    assert len(select(config, "shop", found).replications) == 10_000
    assert time.process_time() - began < 3.0


def test_a_thousand_unknown_names_are_told_quickly(load: Load) -> None:
    found = catalog(*(relation(f"public.table_{n}") for n in range(5_000)))
    tables = {f"public.tabel_{n}": {} for n in range(1_000)}
    began = time.process_time()
    assert len(refused(load, found, tables=tables)) == 1_000
    assert time.process_time() - began < 10.0


def test_a_pattern_leaves_out_a_table_without_columns(load: Any) -> None:
    empty = replace(relation("public.empty", key=""), columns=())
    found = selected(load, catalog(ITEMS, empty), tables={"public.*": {"method": "full_table"}})
    assert [str(each.table) for each in found.replications] == ["public.items"]
    assert found.warnings == ("shop: public.empty has no columns and is left out",)
