"""A standby: what it can do, and how patient it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pg_ingest.config.load import load_config
from pg_ingest.demo.cluster import Cluster
from pg_ingest.doctor.examine import examine
from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest.postgres import slot_creation
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.test_standby import Standby, catch_up

Found = Mapping[tuple[str, str], Finding]

IMPATIENT = {"hot_standby_feedback": "off", "max_standby_streaming_delay": "30s"}


@pytest.fixture(scope="module")
def impatient(cluster: Cluster) -> Iterator[Standby]:
    source = f"host={cluster.host} port={cluster.port} user={cluster.user}"
    settings = {**cluster.settings, "primary_conninfo": source, **IMPATIENT}
    with Standby(settings=settings, primary=cluster) as running:
        yield running


@pytest.fixture
def found(impatient: Standby, database: Database, tmp_path: Path) -> Callable[[], Found]:
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
    log: {{heartbeat: {{every: 60s}}}}
    tables: {{public.t: {{method: full_table}}, public.u: {{method: log_based}}}}
"""
    )

    def look() -> Found:
        findings = examine(load_config(path).config, ["shop"])
        return {
            (one.subject.replace(f"/{database.name}", "/here"), one.test.value): one
            for one in findings
        }

    return look


def test_a_standby_that_cannot_decode(
    found: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_creation, "ANCHOR_VERSION", 990000)
    told = found()
    assert told["shop", "version"].fact.endswith("a standby")
    assert told["shop", "standby"].verdict is Verdict.WARNING
    assert "ALTER SYSTEM SET hot_standby_feedback = 'on'" in told["shop", "standby"].hint
    assert told["shop", "replication"].verdict is Verdict.FAILED
    for test in ("slot", "publication"):
        assert told["shop/here", test].verdict is Verdict.SKIPPED
        assert "standby" in told["shop/here", test].fact
    assert told["shop/here/public.t", "query"].verdict is Verdict.PASSED
    assert told["shop/here", "speed"].verdict is Verdict.PASSED


def test_a_standby_whose_log_can_be_followed(
    found: Callable[[], Found], database: Database, impatient: Standby
) -> None:
    told = found()
    assert told["shop", "replication"].verdict is Verdict.PASSED
    assert told["shop", "standby-log"].verdict is Verdict.FAILED
    assert "hot_standby_feedback = 'on'" in told["shop", "standby-log"].hint
    assert "pg_log_standby_snapshot" in told["shop", "standby-log"].detail
    assert "2 will be made" in told["shop", "slots"].fact
    assert "tell its primary" in told["shop/here", "slot"].fact
    assert told["shop/here", "heartbeat"].verdict is Verdict.WARNING
    missing = told["shop/here", "publication"]
    assert missing.verdict is Verdict.FAILED
    database.execute(missing.hint.partition(":")[2].replace('ONLY "public"."u"', "t"))
    catch_up(database, impatient)
    lacking = found()["shop/here/public.u", "published"]
    assert lacking.verdict is Verdict.FAILED and lacking.hint.startswith("on the primary")
    database.execute(lacking.hint.partition(":")[2])
    catch_up(database, impatient)
    assert found()["shop/here/public.u", "published"].verdict is Verdict.PASSED
