"""What a tick of a schedule asks for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs.assets import DATABASE_TAG
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.partitions import newest_windows
from pg_ingest.defs.processes import PROCESS_TAG
from pg_ingest_tests.defs.conftest import Write


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One on disk: schedules refuse an instance that cannot be found again."""
    with dg.instance_for_test() as made:
        yield made


SOURCE = """
    databases: [app_eu, app_us]
    method: full_table
    schedule: {every: 45m}
    tables:
      public.orders: {}
      public.events: {partition_by: {column: at, every: day, start: 2024-01-01}}
    """
DUE = datetime(1970, 1, 1, tzinfo=UTC)


def tick(
    loaded: LoadedConfig, name: str, instance: dg.DagsterInstance, at: datetime = DUE
) -> tuple[list[str], str]:
    """The partitions that are asked for, and the reason for none."""
    definitions = build_definitions(loaded, {})
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
    )
    schedule = definitions.get_repository_def().get_schedule_def(name)
    found = schedule.evaluate_tick(context)
    return [str(r.partition_key) for r in found.run_requests or []], found.skip_message or ""


def test_a_run_for_each_database(write: Write, instance: dg.DagsterInstance) -> None:
    assert tick(write(SOURCE), "sync_shop_schedule", instance) == (["app_eu", "app_us"], "")


def test_a_minute_in_between_is_skipped(write: Write, instance: dg.DagsterInstance) -> None:
    between = DUE.replace(minute=1)
    assert tick(write(SOURCE), "sync_shop_schedule", instance, between) == (
        [],
        "runs every 0:45:00",
    )


# a RunRequest for a partition of two dimensions gets tags that dagster 1.13 itself deprecates
@pytest.mark.filterwarnings(
    "ignore:Non-compliant tag keys like .'dagster/partition/:DeprecationWarning"
)
def test_the_two_newest_windows(write: Write, instance: dg.DagsterInstance) -> None:
    loaded = write(SOURCE)
    partition_by = loaded.config.sources["shop"].tables["public.events"].partition_by
    assert partition_by is not None
    now = datetime.now(UTC)
    minutes = round(now.timestamp()) // 60
    due = datetime.fromtimestamp(minutes // 45 * 45 * 60, UTC)
    before, current = newest_windows(partition_by, due)
    assert current == f"{due:%Y-%m-%d}"
    assert tick(loaded, "sync_shop_windows_schedule", instance, due)[0] == [
        f"{database}|{window}" for database in ("app_eu", "app_us") for window in (before, current)
    ]


def active_run(
    loaded: LoadedConfig, instance: dg.DagsterInstance, database: str, process: str = ""
) -> str:
    job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
    tags = {DATABASE_TAG: database, **({PROCESS_TAG: process} if process else {})}
    run = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    return run.run_id


def test_a_database_whose_run_goes_on_is_left_out(
    write: Write, instance: dg.DagsterInstance
) -> None:
    loaded = write(SOURCE)
    active_run(loaded, instance, "app_eu")
    assert tick(loaded, "sync_shop_schedule", instance) == (["app_us"], "")
    active_run(loaded, instance, "app_us")
    assert tick(loaded, "sync_shop_schedule", instance) == (
        [],
        "the runs before this one have not ended",
    )


def test_a_run_whose_process_died_holds_nothing_up(
    write: Write, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = write(SOURCE)
    monkeypatch.setattr("pg_ingest.defs.processes.is_gone", lambda process: process == "gone")
    active_run(loaded, instance, "app_eu", process="gone")
    assert tick(loaded, "sync_shop_schedule", instance) == (["app_eu", "app_us"], "")


def test_a_pattern_asks_the_instance(write: Write, instance: dg.DagsterInstance) -> None:
    loaded = write(SOURCE.replace("[app_eu, app_us]", "['app_*']"))
    assert tick(loaded, "sync_shop_schedule", instance) == (
        [],
        "no database of shop is known: run `pg-ingest discover`",
    )
    instance.add_dynamic_partitions("shop_databases", ["app_fr"])
    assert tick(loaded, "sync_shop_schedule", instance) == (["app_fr"], "")
