"""What the factory makes of a configuration, without any server."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg
import pytest

from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs.factory import build_definitions
from pg_ingest.errors import ConfigError
from pg_ingest.table import (
    Column,
    DatabaseCatalog,
    MethodAdvice,
    PgType,
    RelationKind,
    SourceCatalog,
    Table,
    TableId,
    TypeKind,
)
from pg_ingest_tests.defs.conftest import Write

BIGINT = PgType(20, "int8", "pg_catalog", TypeKind.BASE, -1, "bigint")
MOMENT = PgType(1184, "timestamptz", "pg_catalog", TypeKind.BASE, -1, "timestamp with time zone")


def table(name: str, **settings: Any) -> Table:
    settings = {
        "columns": (
            Column("id", 1, BIGINT, nullable=False, comment="number"),
            Column("at", 2, MOMENT),
            Column("secret", 3, BIGINT),
        ),
        "primary_key": ("id",),
        "kind": RelationKind.TABLE,
        **settings,
    }
    return Table(id=TableId.parse(name), oid=1, **settings)


def catalog(**databases: tuple[Table, ...]) -> SourceCatalog:
    found = tuple(DatabaseCatalog(name, 180000, tables) for name, tables in databases.items())
    return SourceCatalog("shop", "2026-11-20T00:00:00+00:00", found)


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


SOURCE = """
    databases: [app_eu, app_us]
    method: full_table
    schedule: {every: 30m, anchor: "02:00"}
    tables:
      public.orders: {method: key_based, replication_key: at, exclude_columns: [secret]}
      public.events: {partition_by: {column: at, every: day, start: 2024-01-01}}
      sales.v_revenue: {key: [id]}
    """


def transcript(definitions: dg.Definitions) -> str:
    """Everything Dagster would show, a line each."""
    graph = definitions.resolve_asset_graph()
    lines = []
    for key, spec in sorted(specs(definitions).items()):
        node = graph.get(spec.key)
        partitions = type(node.partitions_def).__name__ if node.partitions_def else "-"
        kinds = ",".join(sorted(spec.kinds))
        tags = {k: v for k, v in spec.tags.items() if k.startswith("pg_ingest/")}
        deps = ",".join(sorted(dep.asset_key.to_user_string() for dep in spec.deps))
        lines.append(
            f"asset {key} group={spec.group_name} kinds={kinds} {tags} {partitions} <{deps}"
        )
    repository = definitions.get_repository_def()
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            keys = sorted(k.to_user_string() for k in job.asset_layer.executable_asset_keys)
            lines.append(f"job {job.name} {keys}")
    for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name):
        status = schedule.default_status.value
        lines.append(f"schedule {schedule.name} {schedule.cron_schedule} {status}")
    for sensor in repository.sensor_defs:
        if not sensor.name.startswith("default_"):
            lines.append(f"sensor {sensor.name} {sensor.default_status.value}")
    return "\n".join(lines)


def test_the_asset_graph(write: Write) -> None:
    assert transcript(build_definitions(write(SOURCE), {})) == "\n".join(
        [
            "asset postgres/shop/public/events group=postgres_shop kinds=postgres,table {} - <",
            "asset postgres/shop/public/orders group=postgres_shop kinds=postgres,table {} - <",
            "asset postgres/shop/sales/v_revenue group=postgres_shop kinds=postgres,table {} - <",
            "asset shop/public/events group=shop kinds=duckdb,postgres"
            " {'pg_ingest/method': 'full_table'} MultiPartitionsDefinition"
            " <postgres/shop/public/events",
            "asset shop/public/orders group=shop kinds=duckdb,postgres"
            " {'pg_ingest/method': 'key_based'} StaticPartitionsDefinition"
            " <postgres/shop/public/orders",
            "asset shop/sales/v_revenue group=shop kinds=duckdb,postgres"
            " {'pg_ingest/method': 'full_table'} StaticPartitionsDefinition"
            " <postgres/shop/sales/v_revenue",
            "job check_shop []",
            "job sync_shop ['shop/public/orders', 'shop/sales/v_revenue']",
            "job sync_shop_windows ['shop/public/events']",
            "schedule sync_shop_schedule 0,30 * * * * RUNNING",
            "schedule sync_shop_windows_schedule 0,30 * * * * RUNNING",
            "sensor shop_discovery STOPPED",
        ]
    )


def test_loading_leaves_the_definitions_valid(write: Write) -> None:
    dg.Definitions.validate_loadable(build_definitions(write(SOURCE), {}))


def test_the_executor_is_in_process(write: Write) -> None:
    executor = build_definitions(write(SOURCE), {}).executor
    assert isinstance(executor, dg.ExecutorDefinition)
    assert executor.name == "in_process"


def test_partitions_are_the_databases(write: Write) -> None:
    graph = build_definitions(write(SOURCE), {}).resolve_asset_graph()
    node = graph.get(dg.AssetKey(["shop", "public", "orders"]))
    assert node.partitions_def == dg.StaticPartitionsDefinition(["app_eu", "app_us"])


def test_a_window_is_backfilled_in_one_run(write: Write) -> None:
    graph = build_definitions(write(SOURCE), {}).resolve_asset_graph()
    node = graph.get(dg.AssetKey(["shop", "public", "events"]))
    assert node.backfill_policy == dg.BackfillPolicy.single_run()


def test_the_catalogue_gives_texts_and_columns(write: Write) -> None:
    orders = table("public.orders", comment="What was bought")
    seen = catalog(app_eu=(orders, table("public.events"), table("sales.v_revenue")), app_us=())
    spec = specs(build_definitions(write(SOURCE), {"shop": seen}))["shop/public/orders"]
    assert spec.description is not None
    assert spec.description.startswith("What was bought\n\nReplicated from `public.orders`")
    assert "**key_based**" in spec.description
    assert "`shop.orders`" in spec.description
    schema = spec.metadata["dagster/column_schema"]
    schema = getattr(schema, "schema", schema)
    assert [(c.name, c.type, c.description) for c in schema.columns] == [
        ("id", "bigint", "number"),
        ("at", "timestamp with time zone", None),
    ]
    assert schema.columns[0].constraints == dg.TableColumnConstraints(
        nullable=False, unique=True, other=["primary key"]
    )


def test_patterns_take_databases_and_tables_from_the_catalogue(write: Write) -> None:
    loaded = write("databases: ['app_*']\nmethod: full_table\nselect_all: true\n")
    seen = catalog(app_eu=(table("public.a"), table("public.b")), other=(table("public.c"),))
    definitions = build_definitions(loaded, {"shop": seen})
    assert {key for key in specs(definitions) if key.startswith("shop/")} == {
        "shop/public/a",
        "shop/public/b",
    }
    node = definitions.resolve_asset_graph().get(dg.AssetKey(["shop", "public", "a"]))
    assert node.partitions_def == dg.DynamicPartitionsDefinition(name="shop_databases")
    assert "sensor shop_discovery RUNNING" in transcript(definitions)


def test_a_pattern_without_a_catalogue_loads_and_warns(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = write("databases: [app]\nmethod: full_table\nselect_all: true\n")
    definitions = build_definitions(loaded, {})
    assert specs(definitions) == {}
    assert "pg-ingest discover" in caplog.text


@pytest.mark.parametrize(
    ("windows", "jobs"),
    [
        (["day 2024-01-01", "day 2024-01-01"], {"": 2}),
        (["day 2024-01-01", "month 2024-01-01"], {"_day": 1, "_month": 1}),
        (
            ["day 2024-01-01", "day 2023-01-01", "month 2024-01-01"],
            {"_day_20240101": 1, "_day_20230101": 1, "_month": 1},
        ),
    ],
)
def test_a_job_for_each_definition_of_windows(
    write: Write, windows: list[str], jobs: dict[str, int]
) -> None:
    lines = ["databases: [app]", "method: full_table", "tables:"]
    for n, (every, start) in enumerate(window.split() for window in windows):
        setting = f"{{partition_by: {{column: at, every: {every}, start: {start}}}}}"
        lines.append(f"  public.t{n}: {setting}")
    repository = build_definitions(write("\n".join(lines)), {}).get_repository_def()
    made = {
        job.name.removeprefix("sync_shop_windows"): len(job.asset_layer.executable_asset_keys)
        for job in repository.get_all_jobs()
        if job.name.startswith("sync_shop_windows")
    }
    assert made == jobs


def test_unusual_names_are_no_obstacle_to_following_the_log(write: Write) -> None:
    names = ["public.Ünïcode name", "public.a-b", "public.a b", "public.change_log"]
    tables = "".join(f"  {name!r}: {{}}\n" for name in names)
    definitions = build_definitions(
        write(f"databases: [app]\nmethod: log_based\ntables:\n{tables}"), {}
    )
    dg.Definitions.validate_loadable(definitions)
    assert f"shop/{names[0].replace('.', '/')}" in specs(definitions)


def test_unusual_names_are_no_obstacle(write: Write) -> None:
    names = ["public.Ünïcode name", "public.a-b", "public.a b", "a.b__c", "a__b.c", "a_._b"]
    tables = "".join(f"  {name!r}: {{}}\n" for name in names)
    loaded = write(
        f"databases: [app]\nmethod: full_table\nnaming: {{schema: '{{schema}}'}}\ntables:\n{tables}"
    )
    definitions = build_definitions(loaded, {})
    dg.Definitions.validate_loadable(definitions)
    assert f"shop/{names[0].replace('.', '/')}" in specs(definitions)
    steps = [
        asset.node_def.name
        for asset in definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition)
    ]
    assert len(steps) == len(set(steps)) == len(names)


def test_a_thousand_tables(write: Write) -> None:
    tables = "".join(f"  public.table_{n:04}: {{}}\n" for n in range(1000))
    loaded = write(f"databases: [app]\nmethod: full_table\ntables:\n{tables}")
    definitions = build_definitions(loaded, {})
    job = definitions.resolve_job_def("sync_shop")
    assert len(job.asset_layer.executable_asset_keys) == 1000


def test_a_wrong_selection_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"problem"):
        build_definitions(write(SOURCE), {"shop": catalog(app_eu=(), app_us=())})


def test_no_secret_is_in_the_snapshot(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "correct horse battery")
    for password in ("{env: SHOP_PASSWORD}", "correct horse battery"):
        loaded: LoadedConfig = write(SOURCE + f"\n    password: {password}\n")
        definitions = build_definitions(loaded, {})
        for job in definitions.get_repository_def().get_all_jobs():
            assert "correct horse" not in repr(job.get_job_snapshot())
        assert "correct horse" not in repr(specs(definitions))


def test_the_advised_method_stands_on_the_asset(write: Write) -> None:
    """Beside the one the table has now, whichever it had when the server was asked."""
    given = "2026-11-20T08:00:00+00:00"
    advice = tuple(
        MethodAdvice(TableId.parse(name), "log_based", "it is large", (("xmin", "no key"),), given)
        for name in ("public.orders", "public.customers")
    )
    tables = (table("public.customers"), table("public.orders"), table("public.plain"))
    found = SourceCatalog("shop", given, (DatabaseCatalog("app", 180000, tables, advice),))
    loaded = write("""
        databases: [app]
        method: log_based
        tables:
          public.orders: {method: full_table}
          public.customers: {}
          public.plain: {}
        """)
    shown = specs(build_definitions(loaded, {"shop": found}))
    orders = shown["shop/public/orders"].metadata
    assert orders["pg_ingest/recommended_method"] == "log_based"
    assert orders["pg_ingest/advice"] == (
        "full_table; log_based may suit it better: it is large (no xmin: no key)"
    )
    when = orders["pg_ingest/advised_at"]
    assert when == dg.MetadataValue.timestamp(datetime.fromisoformat(given))
    customers = shown["shop/public/customers"].metadata
    assert customers["pg_ingest/advice"] == "log_based, as advised: it is large"
    assert "pg_ingest/advice" not in shown["shop/public/plain"].metadata
    assert "pg_ingest/advice" not in shown["postgres/shop/public/orders"].metadata
