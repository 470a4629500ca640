"""The sensor that watches slots: what it sees, when it asks, and that it does not answer its own echo."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import dagster as dg
import duckdb
import pytest

from pg_ingest.changelog.log import ChangeLog
from pg_ingest.config.load import LoadedConfig
from pg_ingest.config.log import LogConfig
from pg_ingest.defs.assets import DATABASE_TAG, SOURCE_TAG
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.slot_echo import ECHO_LIMIT, Memory, Sight, judge
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write

KEY = dg.AssetKey(["shop", "change_log"])
LOG = LogConfig(lag_sync="100B", lag_warn="10kB")  # type: ignore[arg-type]


def test_it_asks_past_the_threshold_and_then_waits_for_more() -> None:
    memory, asks = judge(None, Sight(1000, 1099), LOG)
    assert not asks
    memory, asks = judge(memory, Sight(1000, 1100), LOG)
    assert asks
    memory, asks = judge(memory, Sight(1000, 1199), LOG)
    assert not asks
    memory, asks = judge(memory, Sight(1000, 1200), LOG)
    assert asks
    assert memory.asked == 2


def test_it_never_asks_while_a_run_is_at_work() -> None:
    memory, asks = judge(None, Sight(1000, 99_000, running=True), LOG)
    assert not asks
    assert judge(memory, Sight(1000, 99_000), LOG)[1]


def test_what_a_run_writes_itself_does_not_count() -> None:
    memory = Memory(1000, 1100, asked=1)
    memory, asks = judge(memory, Sight(1100, 1500, rows=5), LOG)
    assert not asks
    assert memory == Memory(1100, 1500)
    assert not judge(memory, Sight(1100, 1599), LOG)[1]
    assert judge(memory, Sight(1100, 1600), LOG)[1]


def test_its_own_echo_dies_away() -> None:
    """Each run writes more than the threshold after its capture and finds nothing to capture."""
    memory: Memory | None = None
    confirmed, written, runs = 0, 100, 0
    for _ in range(200):
        memory, asks = judge(memory, Sight(confirmed, written, rows=0), LOG)
        if asks:
            runs += 1
            confirmed, written = written, written + 150
        else:
            written += 1
    assert memory is not None
    assert runs <= 2
    assert memory.quiet >= 1


def test_the_echo_limit() -> None:
    memory = Memory(1000, 1000, quiet=50)
    assert not judge(memory, Sight(1000, 999 + 100 * ECHO_LIMIT), LOG)[1]
    assert judge(memory, Sight(1000, 1000 + 100 * ECHO_LIMIT), LOG)[1]
    assert judge(memory, Sight(1000, 2600, rows=3), LOG)[1]
    moved, _ = judge(memory, Sight(1001, 1001, rows=3), LOG)
    assert moved.quiet == 0


def test_beyond_the_warning_it_asks_at_once() -> None:
    memory = Memory(1000, 12_000, quiet=4)
    assert judge(memory, Sight(1000, 12_001), LOG)[1]


Shop = Callable[[str], LoadedConfig]


@pytest.fixture
def loaded(shop: Shop, database: Database) -> Iterator[LoadedConfig]:
    database.execute("create table a (id int primary key)")
    yield shop(
        "method: log_based\nlog: {lag_sync: 100kB, lag_warn: 1MB}\ntables:\n  public.a: {}\n"
    )
    database.rows(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        database.name,
    )


def look(
    loaded: LoadedConfig, instance: dg.DagsterInstance, cursor: str | None = None
) -> tuple[Any, dg.Definitions]:
    definitions = build_definitions(loaded, {})
    repository = definitions.get_repository_def()
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=repository, sensor_name="shop_slot_lag"
    ) as context:
        return repository.get_sensor_def("shop_slot_lag").evaluate_tick(context), definitions


def write_wal(database: Database, kilobytes: int) -> None:
    """As much at least, on the server's disk when this returns: lag counts what is written."""
    text = "x" * 1000
    with database.connect() as connection:
        connection.execute("set synchronous_commit = on")
        for _ in range(kilobytes):
            connection.execute(f"select pg_logical_emit_message(true, 'test', '{text}')")


def facts(tick: Any) -> dict[str, Any]:
    (event,) = tick.asset_events
    assert event.asset_key == KEY
    return {name.removeprefix("pg_ingest/"): found.value for name, found in event.metadata.items()}


def test_from_no_slot_to_a_run_and_back(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    tick, definitions = look(loaded, instance)
    assert tick.skip_message == f"{database.name}: it has no slot yet"
    job = definitions.resolve_job_def("sync_shop")
    tags = {DATABASE_TAG: database.name, SOURCE_TAG: "shop"}
    assert job.execute_in_process(instance=instance, partition_key=database.name, tags=tags).success
    tick, _ = look(loaded, instance)
    seen = facts(tick)
    assert seen["severity"] == "fine"
    assert seen["wal_status"] == "reserved"
    assert seen["lag_bytes"] < 100 << 10
    assert tick.asset_events[0].partition == database.name
    assert not tick.run_requests
    write_wal(database, 200)
    tick, _ = look(loaded, instance, tick.cursor)
    assert facts(tick)["lag_bytes"] > 200_000
    (request,) = tick.run_requests
    assert request.partition_key == database.name
    assert set(request.asset_selection) == {KEY, dg.AssetKey(["shop", "public", "a"])}
    again, _ = look(loaded, instance, tick.cursor)
    assert not again.run_requests
    run = job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        asset_selection=request.asset_selection,
        tags=request.tags,
    )
    assert run.success
    after, _ = look(loaded, instance, tick.cursor)
    assert facts(after)["lag_bytes"] < 200_000
    assert not after.run_requests


def test_it_warns(loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance) -> None:
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    assert job.execute_in_process(instance=instance, partition_key=database.name).success
    write_wal(database, 1100)
    tick, _ = look(loaded, instance)
    seen = facts(tick)
    assert seen["severity"] == "warning"
    assert "bytes of WAL for slot" in seen["warning"]


def test_it_forecasts(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    """From the second look on, by the pace in between."""
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    assert job.execute_in_process(instance=instance, partition_key=database.name).success
    tick, _ = look(loaded, instance)
    assert "wal_bytes_per_s" not in facts(tick)
    before = json.loads(tick.cursor)["pace"]
    write_wal(database, 200)
    tick, _ = look(loaded, instance, tick.cursor)
    seen, after = facts(tick), json.loads(tick.cursor)["pace"]
    rate = (after["written"] - before["written"]) / (after["at"] - before["at"])
    assert seen["wal_bytes_per_s"] == pytest.approx(rate, abs=0.1)
    kept = max(seen["lag_bytes"], seen["retained_bytes"])
    left = loaded.config.sources["shop"].log.lag_warn - kept
    assert seen["lag_warn_in_s"] == pytest.approx(max(0, left) / rate, abs=0.1)


def test_a_failing_table_makes_its_oldest_change_older(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    run = partial(
        job.execute_in_process,
        instance=instance,
        partition_key=database.name,
        raise_on_error=False,
    )
    assert run().success
    assert facts(look(loaded, instance)[0])["oldest_unapplied_s"] == 0
    store = loaded.config.destination.path
    with duckdb.connect(str(store)) as connection:
        connection.execute("alter table shop.a rename to aside")
    database.execute("insert into a values (1)")
    write_wal(database, 1)
    assert not run().success
    tick, _ = look(loaded, instance)
    seen = facts(tick)
    assert (seen["unapplied_rows"], seen["severity"]) == (1, "fine")
    assert seen["oldest_unapplied_s"] >= 0
    changelog = ChangeLog(loaded.config.state_dir, "shop", database.name)
    manifest = changelog.manifest()
    assert manifest is not None
    changelog.commit(
        replace(
            manifest,
            segments=tuple(
                replace(segment, written_at=segment.written_at - 100_000)
                for segment in manifest.segments
            ),
        )
    )
    seen = facts(look(loaded, instance)[0])
    assert seen["oldest_unapplied_s"] > 99_999
    assert "changes captured 28 hours ago are not applied yet to public.a" in seen["warning"]
    with duckdb.connect(str(store)) as connection:
        connection.execute("alter table shop.aside rename to a")
    assert run().success
    assert facts(look(loaded, instance)[0])["unapplied_rows"] == 0


def test_a_cursor_of_another_version_is_forgotten(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    assert job.execute_in_process(instance=instance, partition_key=database.name).success
    for cursor in ('{"shop": {"confirmed": 1}}', '{"slots": {"x": {"y": 1}}}', "[]", "?"):
        tick, _ = look(loaded, instance, cursor)
        assert set(json.loads(tick.cursor)["slots"]) == {database.name}


def test_not_while_a_run_is_at_work(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    assert job.execute_in_process(instance=instance, partition_key=database.name).success
    write_wal(database, 200)
    run = instance.create_run_for_job(
        job, tags={SOURCE_TAG: "shop", "dagster/partition": database.name}
    )
    tick, _ = look(loaded, instance)
    assert not tick.run_requests
    instance.report_run_canceled(run)
    tick, _ = look(loaded, instance, tick.cursor)
    assert len(tick.run_requests) == 1


def test_an_unreachable_source_is_a_reason_to_skip(
    write: Write, instance: dg.DagsterInstance
) -> None:
    loaded = write("databases: [one, two]\nmethod: log_based\ntables:\n  public.a: {}\n")
    tick, _ = look(loaded, instance)
    assert "nothing listens on 127.0.0.1 port 1" in tick.skip_message
    assert "two" not in tick.skip_message
    assert not tick.asset_events


def test_a_database_that_is_gone_does_not_hide_the_others(
    loaded: LoadedConfig, database: Database, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    assert job.execute_in_process(instance=instance, partition_key=database.name).success
    source = loaded.config.sources["shop"]
    several = source.model_copy(update={"databases": ("no_such_database", database.name)})
    config = loaded.config.model_copy(update={"sources": {"shop": several}})
    tick, _ = look(replace(loaded, config=config), instance)
    assert "no_such_database" in tick.skip_message
    assert len(tick.asset_events) == 1
