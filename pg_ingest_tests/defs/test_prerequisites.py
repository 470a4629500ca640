"""The doctor as a job and as asset checks: what each table's check says, and that no sync runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs.factory import build_definitions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write

Shop = Callable[[str], LoadedConfig]

TABLES = """
method: full_table
tables:
  public.good: {}
  'public.an odd | name': {}
  public.bad: {where: "no such column = 1"}
  public.followed: {method: log_based}
"""


@pytest.fixture
def tables(database: Database) -> None:
    for name in ("good", '"an odd | name"', "bad", "followed"):
        database.execute(f"create table {name} (id int primary key)")


def checked(
    loaded: LoadedConfig, instance: dg.DagsterInstance
) -> dict[str, dg.AssetCheckEvaluation]:
    """What the job says, by the last part of the asset's key."""
    job = build_definitions(loaded, {}).resolve_job_def("check_shop")
    result = job.execute_in_process(instance=instance)
    assert result.success
    return {each.asset_key.path[-1]: each for each in result.get_asset_check_evaluations()}


def metadata(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {key: found.value for key, found in evaluation.metadata.items()}


@pytest.mark.usefixtures("tables")
def test_each_table_is_told_what_concerns_it(shop: Shop, instance: dg.DagsterInstance) -> None:
    found = checked(shop(TABLES), instance)
    assert set(found) == {"good", "an odd | name", "bad", "followed", "change_log"}
    assert found["good"].passed
    assert found["an odd | name"].passed
    assert not found["bad"].passed
    assert found["bad"].severity is dg.AssetCheckSeverity.ERROR
    said = metadata(found["bad"])["pg_ingest/findings"]
    assert "| ✗ |" in said
    assert "filter" in said
    assert "good" not in said
    assert "an odd \\| name" in metadata(found["an odd | name"])["pg_ingest/findings"]
    assert not found[
        "change_log"
    ].passed  # max_slot_wal_keep_size is not set, the role is a superuser
    assert found["change_log"].severity is dg.AssetCheckSeverity.WARN
    assert "slot-wal-limit" in metadata(found["change_log"])["pg_ingest/source"]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("job", ["sync_shop", "__ASSET_JOB"])
def test_no_sync_runs_them(
    shop: Shop, instance: dg.DagsterInstance, database: Database, job: str
) -> None:
    definitions = build_definitions(shop(TABLES), {})
    found = (
        definitions.resolve_job_def(job)
        if job == "sync_shop"
        else definitions.resolve_implicit_global_asset_job_def()
    )
    result = found.execute_in_process(
        instance=instance,
        partition_key=database.name,
        asset_selection=[dg.AssetKey(["shop", "public", "good"])],
    )
    assert result.success
    assert len(result.get_asset_materialization_events()) == 1
    assert result.get_asset_check_evaluations() == []


def test_a_source_that_is_down_fails_every_table(
    write: Write, instance: dg.DagsterInstance
) -> None:
    loaded = write(
        "password: unrepeatable\ndatabases: [a]\ntables: {public.t: {method: full_table}}"
    )
    (evaluation,) = checked(loaded, instance).values()
    assert not evaluation.passed
    said = metadata(evaluation)
    assert said["pg_ingest/verdict"] == "failed"
    assert "nothing listens on" in said["pg_ingest/source"]
    assert "unrepeatable" not in repr(said)
