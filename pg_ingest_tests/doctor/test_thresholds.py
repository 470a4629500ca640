"""Tests that depend on time and room: what is measured is real, only the bounds are moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.config.model import IngestConfig
from pg_ingest.doctor import destination, server, speed
from pg_ingest.doctor.finding import Verdict
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with server_for(database).session(database.name) as opened:
        yield opened


def test_a_slow_line_is_warned_about(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    found = speed.check_speed(session, [])
    assert (found.verdict, "made up rows" in found.fact) == (Verdict.PASSED, True)
    monkeypatch.setattr(speed, "SLOW", 10**15)
    found = speed.check_speed(session, [])
    assert found.verdict is Verdict.WARNING
    assert "nearer to the server" in found.hint


def test_a_line_is_not_called_slow_for_a_limit_of_ours(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "SAMPLE_BYTES", 400_000)
    limited = server_for(database, limits={"max_rate": 800_000})
    with limited.session(database.name) as session:
        found = speed.check_speed(session, [])
    assert found.verdict is Verdict.PASSED
    assert "`limits.max_rate`" in found.fact


def test_a_large_table_is_sampled_and_let_go(
    session: Session, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        "create table large as select g, repeat('x', 500) t from generate_series(1, 9000) g"
    )
    database.execute("analyze large")
    monkeypatch.setattr(speed, "SAMPLE_BYTES", 1_000_000)
    table = describe(session, TableId("public", "large"))
    found = speed.check_speed(session, [(table, table.columns)])
    assert "of public.large" in found.fact
    assert session.rows("select 1") == [(1,)]  # the cancelled COPY left the session usable


def test_a_wrong_clock_is_warned_about(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts() -> dict[str, Verdict]:
        found = server.check_identity(session, Provider.PLAIN)
        return {each.test.value: each.verdict for each in found}

    before = verdicts()
    assert before["clock"] is Verdict.PASSED
    assert before["role"] is Verdict.WARNING  # the tests' role is a superuser
    monkeypatch.setattr(server, "CLOCK_SECONDS", -1.0)
    assert verdicts()["clock"] is Verdict.WARNING


def test_a_full_disk_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = IngestConfig.model_validate(
        {
            "destination": {"path": str(tmp_path / "w.duckdb")},
            "state_dir": str(tmp_path / "state"),
            "sources": {"shop": {"host": "db", "user": "u", "databases": ["a"]}},
        }
    )
    assert [each.verdict for each in destination.check_state(config)] == [Verdict.PASSED] * 2
    monkeypatch.setattr(destination, "LEAST_ROOM", 1 << 60)
    found = [*destination.check_destination(config), *destination.check_state(config)]
    disks = [each for each in found if each.test == "disk"]
    assert [each.verdict for each in disks] == [Verdict.WARNING] * 2
    assert all("make room" in each.hint for each in disks)
