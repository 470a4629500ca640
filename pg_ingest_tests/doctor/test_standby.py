"""A standby: what it can do, and how patient it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.config.load import load_config
from pg_ingest.demo.cluster import Cluster
from pg_ingest.doctor.examine import examine
from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.test_standby import Standby, catch_up

IMPATIENT = {"hot_standby_feedback": "off", "max_standby_streaming_delay": "30s"}


@pytest.fixture(scope="module")
def impatient(cluster: Cluster) -> Iterator[Standby]:
    source = f"host={cluster.host} port={cluster.port} user={cluster.user}"
    settings = {**cluster.settings, "primary_conninfo": source, **IMPATIENT}
    with Standby(settings=settings, primary=cluster) as running:
        yield running


def test_a_standby_is_told_what_it_cannot_do(
    impatient: Standby, database: Database, tmp_path: Path
) -> None:
    database.execute("create table t (id int primary key); create table u (id int primary key)")
    catch_up(database, impatient)
    path = tmp_path / "pg_ingest.yaml"
    path.write_text(
        f"""
destination: {{type: duckdb, path: w.duckdb}}
sources:
  shop:
    host: {impatient.host}
    port: {impatient.port}
    user: {impatient.user}
    databases: [{database.name}]
    tables: {{public.t: {{method: full_table}}, public.u: {{method: log_based}}}}
"""
    )
    found = {
        (each.subject, each.test.value): each
        for each in examine(load_config(path).config, ["shop"])
    }

    def of(subject: str, test: str) -> Finding:
        return found[subject, test]

    here = f"shop/{database.name}"
    assert of("shop", "version").fact.endswith("a standby")
    assert of("shop", "standby").verdict is Verdict.WARNING
    assert "ALTER SYSTEM SET hot_standby_feedback = 'on'" in of("shop", "standby").hint
    assert of("shop", "replication").verdict is Verdict.FAILED
    for test in ("slot", "publication"):
        assert of(here, test).verdict is Verdict.SKIPPED
        assert "standby" in of(here, test).fact
    assert of(f"{here}/public.t", "query").verdict is Verdict.PASSED
    assert of(here, "speed").verdict is Verdict.PASSED
