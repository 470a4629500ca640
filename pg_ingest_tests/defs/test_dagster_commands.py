"""The lines of the README that start Dagster's own programs, and the settings that are shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

import pg_ingest
from pg_ingest.config.load import LoadedConfig
from pg_ingest.defs.factory import build_definitions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.defs.conftest import Write

ROOT = Path(pg_ingest.__file__).parents[1]
Shop = Callable[[str], LoadedConfig]


def dagster(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("DAGSTER_HOME", "PG_INGEST_CONFIG")
    }
    return subprocess.run(
        [sys.executable, "-m", "dagster", *arguments],
        cwd=folder,
        env={**environment, "DAGSTER_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
    )


def test_validate_list_and_materialize(shop: Shop, database: Database, tmp_path: Path) -> None:
    database.execute("create table orders (id int)")
    (tmp_path / "home").mkdir()
    shop("method: full_table\ntables:\n  public.orders: {}\n")
    location = ("-m", "pg_ingest.definitions")
    valid = dagster(tmp_path, "definitions", "validate", *location)
    assert valid.returncode == 0, valid.stderr
    listed = dagster(tmp_path, "asset", "list", *location)
    assert listed.stdout.split() == ["shop/public/orders"]
    select = ("--select", 'key:"shop/public/orders"', "--partition", database.name)
    made = dagster(tmp_path, "asset", "materialize", *location, *select)
    assert made.returncode == 0, made.stderr
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        key = dg.AssetKey(["shop", "public", "orders"])
        assert instance.get_materialized_partitions(key) == {database.name}


def test_without_a_configuration_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    told = dagster(tmp_path, "definitions", "validate", "-m", "pg_ingest.definitions")
    assert told.returncode != 0
    assert "there is no configuration file" in told.stdout + told.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning:sqlalchemy")
def test_runs_in_postgres(
    write: Write, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dagster.example.yaml works with the versions that are installed."""
    database.execute("create table orders (id int)")
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.example.yaml").read_text())
    url = f"postgresql+psycopg2://postgres@{database.host}:{database.port}/{database.name}"
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    loaded = write(
        f"databases: [{database.name}]\nmethod: full_table\ntables:\n  public.orders: {{}}\n",
        host=database.host,
        port=database.port,
    )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        job = build_definitions(loaded, {}).resolve_job_def("sync_shop")
        result = job.execute_in_process(instance=instance, partition_key=database.name)
        assert result.success
        assert instance.get_run_by_id(result.run_id) is not None
    assert database.rows("select count(*) from runs where status = 'SUCCESS'") == [(1,)]
