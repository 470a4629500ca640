"""Quiet hours: what starts by itself waits, what a person starts does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from pg_ingest.config.load import LoadedConfig
from pg_ingest.config.log import LogConfig
from pg_ingest.defs.quiet import patient, quiet_now
from pg_ingest.defs.route import Route
from pg_ingest.defs.slot_echo import Sight, judge
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write
from pg_ingest_tests.defs.test_materialize import facts, run
from pg_ingest_tests.defs.test_schedules import tick

SHOP = """
    databases: [app]
    method: full_table
    schedule: {every: 30m}
    limits: {quiet_hours: {from: "08:00", to: "18:00", timezone: Europe/Berlin}}
    tables:
      public.orders: {}
    """
NOON = datetime(2026, 11, 20, 11, 0, tzinfo=UTC)


def always() -> str:
    """Quiet hours that are now, whenever this runs."""
    begin = datetime.now(UTC) - timedelta(hours=1)
    return f'{{from: "{begin:%H:%M}", to: "{begin + timedelta(hours=23):%H:%M}"}}'


def test_a_schedule_starts_nothing(write: Write) -> None:
    loaded = write(SHOP)
    with dg.instance_for_test() as instance:
        assert tick(loaded, "sync_shop_schedule", instance, NOON) == (
            [],
            "quiet hours of shop until 2026-11-20 18:00 Europe/Berlin",
        )
        evening = NOON + timedelta(hours=6)
        assert tick(loaded, "sync_shop_schedule", instance, evening) == (["app"], "")


def test_without_quiet_hours_it_is_never_quiet(write: Write) -> None:
    loaded = write("databases: [app]\nmethod: full_table\ntables: {public.orders: {}}\n")
    assert quiet_now(Route("shop", loaded.config), NOON) == ""


def test_the_slot_sensor_waits_until_it_must_not(write: Write) -> None:
    loaded = write(SHOP.replace('{from: "08:00", to: "18:00", timezone: Europe/Berlin}', always()))
    route = Route("shop", loaded.config)
    log = LogConfig(lag_sync="100B", lag_warn="10kB")  # type: ignore[arg-type]
    assert judge(None, Sight(0, 5000), log)[1]
    assert not judge(None, Sight(0, 5000), patient(route, log))[1]
    assert judge(None, Sight(0, 10 << 10), patient(route, log))[1]


@pytest.mark.parametrize("starter", ["dagster/schedule_name", "dagster/sensor_name", None])
def test_a_run_begins_no_table_unless_a_person_started_it(
    shop: Callable[[str], LoadedConfig],
    database: Database,
    instance: dg.DagsterInstance,
    starter: str | None,
) -> None:
    database.execute("create table orders (id int primary key)")
    database.execute("insert into orders values (1)")
    loaded = shop(
        f"method: full_table\nlimits: {{quiet_hours: {always()}}}\ntables: {{public.orders: {{}}}}\n"
    )
    tags = {} if starter is None else {starter: "any"}
    result = run(loaded, database.name, instance, tags=tags)
    assert result.success
    if starter is None:
        assert facts(result, "orders")["dagster/row_count"] == 1
    else:
        assert not result.get_asset_materialization_events()
