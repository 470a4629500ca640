"""The server ends our connection in the middle of an examination: a finding says so, nothing is raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from pg_ingest.config.load import load_config
from pg_ingest.config.model import IngestConfig
from pg_ingest.doctor.examine import examine
from pg_ingest.doctor.finding import Verdict
from pg_ingest_tests.conftest import Database

KILL = """select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where datname = %s and application_name like 'pg_ingest/%%'"""


@pytest.fixture
def config(database: Database, tmp_path: Path) -> IngestConfig:
    database.execute("create table a (id int primary key); create table b (id int primary key)")
    path = tmp_path / "pg_ingest.yaml"
    path.write_text(
        f"""
destination: {{type: duckdb, path: w.duckdb}}
sources:
  shop:
    host: {database.host}
    port: {database.port}
    user: {database.user}
    databases: [{database.name}]
    tables: {{public.a: {{method: log_based}}, public.b: {{method: xmin}}}}
"""
    )
    return load_config(path).config


def test_a_connection_that_ends_anywhere(config: IngestConfig, database: Database) -> None:
    whole = list(examine(config, ["shop"]))
    assert not [each for each in whole if each.verdict is Verdict.FAILED]
    first = next(n for n, each in enumerate(whole) if each.test == "login")
    noticed = 0
    for when in range(first, len(whole), 3):
        found = []
        for number, finding in enumerate(examine(config, ["shop"])):
            found.append(finding)
            if number == when:
                database.rows(KILL, database.name)
        broken = [each for each in found if each.verdict is Verdict.FAILED]
        noticed += bool(broken)
        assert all("again" in each.hint for each in broken), broken
    assert noticed >= (len(whole) - first) // 3 // 2
