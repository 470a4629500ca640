"""The log-based step, materialised in process, from a real server into a real file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import dagster as dg
import duckdb
import pytest

from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs import faults
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.route import Route
from pg_ingest.postgres.slot import locked_slot
from pg_ingest_tests.conftest import Database

Shop = Callable[[str], LoadedConfig]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "RETRY_SECONDS", (0.0,))


@pytest.fixture
def loaded(shop: Shop, database: Database) -> Iterator[LoadedConfig]:
    for table in ("a", "b"):
        database.execute(f"create table {table} (id int primary key, v text)")
        database.execute(f"insert into {table} select n, 'old' from generate_series(1, 3) n")
    database.execute("create table c (id int)")
    config = shop(
        "method: log_based\nlimits: {lock_timeout: 1}\ntables:\n  public.a: {}\n"
        "  public.b: {shape: soft_delete}\n  public.c: {method: full_table}\n"
    )
    yield config
    database.rows(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        database.name,
    )


def key(*parts: str) -> dg.AssetKey:
    return dg.AssetKey(["shop", *parts])


def run(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance, **options: Any
) -> dg.ExecuteInProcessResult:
    database.execute("select pg_switch_wal()")
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    return job.execute_in_process(
        instance=instance, raise_on_error=False, partition_key=database.name, **options
    )


def made(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Metadata of the materialisations, by the last part of the key."""
    return {
        event.asset_key.path[-1]: {k: v.value for k, v in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def failures(result: dg.ExecuteInProcessResult) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            assert told is not None, event.step_failure_data.error
            metadata = {k: v.value for k, v in (told.metadata or {}).items()}
            found.append((told.description or "", metadata))
    return found


def stored(loaded: LoadedConfig, query: str) -> list[tuple[Any, ...]]:
    path = str(loaded.config.destination.path)
    with closing(duckdb.connect(path, read_only=True)) as connection:
        return connection.execute(query).fetchall()


def test_the_asset_graph(loaded: LoadedConfig) -> None:
    definitions = build_definitions(loaded, {})
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    assert graph.get(key("change_log")).child_keys == {key("public", "a"), key("public", "b")}
    assert graph.get(key("public", "a")).parent_keys == {
        key("change_log"),
        dg.AssetKey(["postgres", "shop", "public", "a"]),
    }
    job = definitions.resolve_job_def("sync_shop")
    assert job.asset_layer.executable_asset_keys == {
        key("change_log"),
        *(key("public", table) for table in ("a", "b", "c")),
    }


def test_first_rows_then_changes_then_nothing(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    first = made(run(loaded, database, instance))
    assert set(first) == {"change_log", "a", "b", "c"}
    assert first["a"]["pg_ingest/phase"] == "snapshot"
    assert first["a"]["dagster/row_count"] == 3
    assert first["a"]["dagster/column_schema"].columns[0].name == "id"
    assert first["change_log"]["pg_ingest/tables"] == 2
    database.execute("insert into a values (4, 'new')")
    database.execute("delete from b where id = 1")
    second = made(run(loaded, database, instance))
    assert (second["a"]["pg_ingest/phase"], second["a"]["pg_ingest/inserted"]) == ("changes", 1)
    assert second["b"]["pg_ingest/deleted"] == 1
    log = second["change_log"]
    assert (log["pg_ingest/rows"], log["pg_ingest/transactions"]) == (2, 2)
    assert "/" in log["pg_ingest/from"]
    assert log["pg_ingest/wal_status"] == "reserved"
    assert log["pg_ingest/lag_bytes"] < 1 << 20
    assert stored(loaded, "select count(*) from shop.b where _pgi_deleted_at is not null") == [(1,)]
    assert set(made(run(loaded, database, instance))) == {"change_log", "c"}


def test_a_subset_captures_all_and_applies_itself(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    run(loaded, database, instance)
    database.execute("insert into a values (4, 'new')")
    database.execute("insert into b values (4, 'new')")
    part = run(loaded, database, instance, asset_selection=[key("public", "b")])
    assert part.success
    assert set(made(part)) == {"b"}
    rest = made(run(loaded, database, instance))
    assert rest["change_log"]["pg_ingest/rows"] == 0
    assert rest["a"]["pg_ingest/inserted"] == 1
    assert "b" not in rest


def test_the_change_log_alone(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    alone = run(loaded, database, instance, asset_selection=[key("change_log")])
    assert set(made(alone)) == {"change_log"}
    assert not loaded.config.destination.path.exists()


def test_a_failing_table_is_told_at_the_end(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    run(loaded, database, instance)
    with closing(duckdb.connect(str(loaded.config.destination.path))) as connection:
        connection.execute("drop table shop.a")
    for table in ("a", "b"):
        database.execute(f"insert into {table} values (4, 'new')")
    result = run(loaded, database, instance)
    assert not result.success
    assert set(made(result)) == {"change_log", "b", "c"}
    ((description, metadata),) = failures(result)
    assert description.startswith("1 of 2 tables failed\npublic.a: ")
    assert metadata["pg_ingest/error"] == "DestinationFailed"
    assert "reset" in metadata["pg_ingest/failed"]["public.a"]["hint"]
    config = {"ops": {"shop__log_based": {"config": {"reset": True}}}}
    options = {"run_config": config, "asset_selection": [key("public", "a")]}
    again = run(loaded, database, instance, **options)
    assert made(again)["a"]["pg_ingest/phase"] == "snapshot"
    assert stored(loaded, "select count(*) from shop.a") == [(4,)]


def test_a_fault_that_passes_is_tried_again(
    loaded: LoadedConfig,
    database: Database,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pg_ingest.errors import SourceBusy
    from pg_ingest.methods import log_based

    snapshot, left = log_based.snapshot, [1]

    def busy_once(session: Any, replication: Any, table: Any, **options: Any) -> Any:
        if replication.table.name == "a" and left[0]:
            left[0] -= 1
            raise SourceBusy("not now")
        return snapshot(session, replication, table, **options)

    monkeypatch.setattr(log_based, "snapshot", busy_once)
    result = run(loaded, database, instance)
    assert result.success
    assert {"a", "b", "change_log"} <= set(made(result))
    assert any(e.event_type_value == "STEP_UP_FOR_RETRY" for e in result.all_events)
    assert stored(loaded, "select count(*) from shop.a") == [(3,)]
    assert stored(loaded, "select count(*) from _pgi.loads where \"table\" = 'b'") == [(1,)]


def test_a_busy_slot_is_a_polite_retry(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    server = Route("shop", loaded.config).server
    slot = loaded.config.sources["shop"].log.slot_name(database.name)
    with server.session(database.name) as session, locked_slot(session, slot):
        result = run(loaded, database, instance)
    assert not result.success
    assert any(e.event_type_value == "STEP_UP_FOR_RETRY" for e in result.all_events)
    ((description, metadata),) = failures(result)
    assert "another process of ours" in description
    assert metadata["pg_ingest/error"] == "SlotBusy"


def test_a_table_that_one_of_several_databases_lacks(
    write: Any, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table a (id int primary key)")
    config = write(
        f"databases: [{database.name}, postgres]\nmethod: log_based\n"
        "tables:\n  public.a: {}\n  public.elsewhere: {}\n",
        host=database.host,
        port=database.port,
    )
    try:
        result = run(config, database, instance)
        assert result.success
        assert set(made(result)) == {"change_log", "a"}
        assert made(result)["change_log"]["pg_ingest/absent"] == ["public.elsewhere"]
    finally:
        database.rows(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
            " where database = %s",
            database.name,
        )


def test_another_attempt_does_not_reset_again(
    loaded: LoadedConfig,
    database: Database,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pg_ingest.errors import SourceBusy
    from pg_ingest.methods import log_based

    run(loaded, database, instance)
    snapshot, read = log_based.snapshot, list[str]()

    def busy_once(session: Any, replication: Any, table: Any, **options: Any) -> Any:
        read.append(replication.table.name)
        if read.count("b") == 1 and read[-1] == "b":
            raise SourceBusy("not now")
        return snapshot(session, replication, table, **options)

    monkeypatch.setattr(log_based, "snapshot", busy_once)
    options = {
        "run_config": {"ops": {"shop__log_based": {"config": {"reset": True}}}},
        "asset_selection": [key("public", "a"), key("public", "b")],
    }
    assert run(loaded, database, instance, **options).success
    assert read == ["a", "b", "b"]
