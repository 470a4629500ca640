"""Assets materialised in process, from a real server into a real file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs import faults
from pg_ingest.defs.factory import build_definitions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write

Shop = Callable[[str], LoadedConfig]

THREE = dedent("""
    method: full_table
    limits: {connect_timeout: 2}
    tables:
      public.a: {}
      public.bad: {where: "no such column = 1"}
      public.c: {}
    """)


def run(
    loaded: LoadedConfig,
    database: str,
    instance: dg.DagsterInstance,
    *,
    job: str = "sync_shop",
    **options: Any,
) -> dg.ExecuteInProcessResult:
    definitions = build_definitions(loaded, {})
    options = {"partition_key": database, **options}
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, raise_on_error=False, **options
    )


def facts(result: dg.ExecuteInProcessResult, table: str) -> dict[str, Any]:
    """Metadata of the table's first materialisation."""
    for event in result.get_asset_materialization_events():
        if event.asset_key is not None and event.asset_key.path[-1] == table:
            return {key: found.value for key, found in event.materialization.metadata.items()}
    raise AssertionError(f"{table} was not materialised")


def failures(result: dg.ExecuteInProcessResult) -> dict[str, tuple[str, dict[str, Any]]]:
    """Description and metadata of each failed step."""
    found = {}
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            assert told is not None, event.step_failure_data.error
            metadata = {key: value.value for key, value in (told.metadata or {}).items()}
            found[str(event.step_key)] = (told.description or "", metadata)
    return found


def stored(tmp_path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True)) as connection:
        return connection.execute(query).fetchall()


def test_metadata_say_what_happened(
    shop: Shop, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table orders (id int primary key, name text)")
    database.execute("comment on column orders.name is 'who'")
    database.execute("insert into orders select n, 'x' from generate_series(1, 10) n")
    loaded = shop("method: full_table\ntables:\n  public.orders: {}\n")
    found = facts(run(loaded, database.name, instance), "orders")
    assert found["dagster/row_count"] == found["dagster/partition_row_count"] == 10
    assert found["dagster/table_name"] == "shop.orders"
    assert (found["pg_ingest/inserted"], found["pg_ingest/rows_read"]) == (10, 10)
    assert found["pg_ingest/bytes"] > 0
    assert found["pg_ingest/phase"] == "snapshot"
    assert "/" in found["pg_ingest/to"]
    columns = found["dagster/column_schema"].columns
    assert [(c.name, c.type, c.description) for c in columns] == [
        ("id", "integer", None),
        ("name", "text", "who"),
    ]
    again = facts(run(loaded, database.name, instance), "orders")
    assert again["pg_ingest/inserted"] == again["pg_ingest/updated"] == 0


def test_the_bad_table_fails_and_the_others_arrive(
    shop: Shop, database: Database, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    for table in ("a", "bad", "c"):
        database.execute(f"create table {table} (id int)")
        database.execute(f"insert into {table} values (1)")
    result = run(shop(THREE), database.name, instance)
    assert not result.success
    ((step, (description, metadata)),) = failures(result).items()
    assert step == "shop__public__bad"
    assert "public.bad" in description
    assert "where" in description
    assert metadata["pg_ingest/error"] == "QueryRefused"
    assert metadata["pg_ingest/runbook"] == "docs/runbook.md#queryrefused"
    assert stored(tmp_path, "select * exclude (_pgi_synced_at) from shop.a") == [(1,)]
    assert stored(tmp_path, "select * exclude (_pgi_synced_at) from shop.c") == [(1,)]


def test_a_range_of_windows_is_one_run_and_one_copy(
    shop: Shop, database: Database, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    database.execute("create table events (id int, at timestamptz not null)")
    database.execute(
        "insert into events select n, '2024-01-01 UTC'::timestamptz + n * interval '1 hour'"
        " from generate_series(0, 239) n"
    )
    loaded = shop(
        "method: full_table\ntables:\n  public.events:\n"
        "    partition_by: {column: at, every: day, start: 2024-01-01, end: 2024-01-11}\n"
    )
    name = database.name
    tags = {
        ASSET_PARTITION_RANGE_START_TAG: f"{name}|2024-01-03",
        ASSET_PARTITION_RANGE_END_TAG: f"{name}|2024-01-05",
    }
    result = run(loaded, name, instance, job="sync_shop_windows", partition_key=None, tags=tags)
    assert result.success
    events = result.get_asset_materialization_events()
    assert sorted(str(event.partition) for event in events) == [
        f"{name}|2024-01-0{day}" for day in (3, 4, 5)
    ]
    found = facts(result, "events")
    assert found["pg_ingest/rows_read"] == 72
    assert found["pg_ingest/window"] == "2024-01-03T00:00:00+00:00 … 2024-01-06T00:00:00+00:00"
    assert stored(tmp_path, "select count(*), min(id), max(id) from shop.events") == [(72, 48, 119)]
    assert stored(tmp_path, "select count(*) from _pgi.loads") == [(1,)]
    database.execute("delete from events where id = 50")
    one = run(loaded, name, instance, job="sync_shop_windows", partition_key=f"{name}|2024-01-03")
    assert one.success
    told = facts(one, "events")
    assert told["pg_ingest/inserted"] - told["pg_ingest/deleted"] == -1
    assert stored(tmp_path, "select count(*) from shop.events") == [(71,)]


def test_reset_from_the_launchpad(
    shop: Shop, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table orders (id int primary key, at timestamptz not null)")
    database.execute("insert into orders values (1, '2024-01-01 UTC')")
    loaded = shop("tables:\n  public.orders: {method: key_based, replication_key: at}\n")
    assert run(loaded, database.name, instance).success
    database.execute("delete from orders")
    config = {"ops": {"shop__public__orders": {"config": {"reset": True}}}}
    kept = facts(run(loaded, database.name, instance), "orders")
    assert kept["dagster/row_count"] == 1
    gone = facts(run(loaded, database.name, instance, run_config=config), "orders")
    assert (gone["pg_ingest/deleted"], gone["dagster/row_count"]) == (1, 0)


def test_a_table_that_one_of_several_databases_lacks_stays_missing(
    write: Write, database: Database, instance: dg.DagsterInstance
) -> None:
    database.execute("create table orders (id int)")
    loaded = write(
        f"databases: [{database.name}, postgres]\nmethod: full_table\n"
        "tables:\n  public.orders: {}\n",
        host=database.host,
        port=database.port,
    )
    lacking = run(loaded, "postgres", instance)
    assert lacking.success
    assert lacking.get_asset_materialization_events() == []
    assert run(loaded, database.name, instance).get_asset_materialization_events()
    database.execute("drop table orders")
    gone = run(loaded, database.name, instance)
    ((description, metadata),) = failures(gone).values()
    assert "does not exist" in description
    assert metadata["pg_ingest/error"] == "SourceTableChanged"


def test_an_unreachable_source_is_tried_again_and_knocked_at_once(
    write: Write, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pg_ingest.postgres import server

    knocks = []
    connect = server.open_connection

    def counted(*arguments: Any) -> Any:
        knocks.append(arguments)
        return connect(*arguments)

    monkeypatch.setattr(server, "open_connection", counted)
    monkeypatch.setattr(server, "RETRY_DELAYS", ())
    monkeypatch.setattr(server.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(faults, "RETRY_SECONDS", (0.0, 0.0))
    loaded = write("databases: [app]\n" + THREE)
    result = run(loaded, "app", instance)
    found = failures(result)
    assert len(found) == 3
    assert all("nothing listens on 127.0.0.1 port 1" in text for text, _ in found.values())
    retries = [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    assert len(retries) == 3 * 2
    assert len(knocks) == 3 * 4  # three attempts of the run, four of the session, for one table


def test_a_refused_login_is_tried_once(
    database: Database, write: Write, instance: dg.DagsterInstance
) -> None:
    loaded = write(
        "databases: [no_such_database]\n" + THREE, host=database.host, port=database.port
    )
    result = run(loaded, "no_such_database", instance)
    assert {metadata["pg_ingest/error"] for _, metadata in failures(result).values()} == {
        "LoginFailed"
    }
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]


def test_an_unexpected_error_never_quotes_the_password(
    shop: Shop,
    database: Database,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import pg_ingest.loading.replicate

    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("bug with correct-horse-battery inside")

    monkeypatch.setattr(pg_ingest.loading.replicate, "replicate", broken)
    loaded = shop(
        "password: correct-horse-battery\nmethod: full_table\ntables:\n  public.orders: {}\n"
    )
    result = run(loaded, database.name, instance)
    ((description, _),) = failures(result).values()
    assert "RuntimeError: bug with ********** inside" in description
    told = "".join(str(event) for event in instance.all_logs(result.run_id))
    assert "correct-horse" not in told + "".join(capfd.readouterr())


def test_dynamic_databases(write: Write, database: Database, instance: dg.DagsterInstance) -> None:
    database.execute("create table orders (id int)")
    loaded = write(
        f"databases: ['{database.name}*']\nmethod: full_table\ntables:\n  public.orders: {{}}\n",
        host=database.host,
        port=database.port,
    )
    instance.add_dynamic_partitions("shop_databases", [database.name])
    assert run(loaded, database.name, instance).success


def test_why_all_rows_were_read_again(
    shop: Shop, database: Database, instance: dg.DagsterInstance
) -> None:
    """It stands on the materialisation."""
    database.execute("create table a (id int primary key); insert into a values (1), (2)")
    loaded = shop("tables: {public.a: {method: xmin}}\n")
    first = facts(run(loaded, database.name, instance), "a")
    assert "pg_ingest/notes" not in first
    database.execute("vacuum full a")
    again = facts(run(loaded, database.name, instance), "a")
    assert again["pg_ingest/phase"] == "snapshot"
    assert "it has another file" in again["pg_ingest/notes"]
