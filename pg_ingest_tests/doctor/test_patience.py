"""What is said of a standby's patience, for each provider."""

from __future__ import annotations

import pytest

from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest.doctor.patience import check_patience
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server_state import ServerSettings

FEEDBACK = {"hot_standby_feedback": "on"}


def told(provider: Provider = Provider.PLAIN, **settings: str) -> Finding:
    values = {
        "hot_standby_feedback": "off",
        "max_standby_streaming_delay": "30000",
        "max_standby_archive_delay": "30000",
        "restore_command": "",
        **settings,
    }
    return check_patience("shop", ServerSettings(values, frozenset()), provider)


@pytest.mark.parametrize(
    "settings",
    [
        FEEDBACK,
        {"max_standby_streaming_delay": "-1"},
        {"max_standby_streaming_delay": "300000"},
        {
            "max_standby_streaming_delay": "-1",
            "max_standby_archive_delay": "900000",
            "restore_command": "cp",
        },
    ],
)
def test_long_reads_end(settings: dict[str, str]) -> None:
    assert told(**settings).verdict is Verdict.PASSED


def test_long_reads_are_cancelled() -> None:
    finding = told()
    assert finding.verdict is Verdict.WARNING
    assert "cancelled 30 s after streamed WAL arrived" in finding.fact
    assert "archive" not in finding.fact + finding.hint
    assert "hot_standby_feedback = 'on'" in finding.hint
    assert "max_standby_streaming_delay = '15min'" in finding.hint
    assert "StatementCancelled" in finding.detail


def test_a_standby_that_reads_an_archive_has_two_delays() -> None:
    finding = told(restore_command="cp", max_standby_streaming_delay="-1")
    assert "max_standby_streaming_delay for ever" in finding.fact
    assert "30 s after archived WAL arrived" in finding.fact
    assert "max_standby_archive_delay = '15min'" in finding.hint
    assert "max_standby_streaming_delay =" not in finding.hint


@pytest.mark.parametrize(
    ("provider", "parts"),
    [
        (Provider.RDS, ("hot_standby_feedback = 1", "max_standby_streaming_delay = 900000")),
        (Provider.CLOUDSQL, ("hot_standby_feedback=on", "max_standby_streaming_delay=900000")),
        (Provider.AZURE, ("--name hot_standby_feedback --value on", "--value 900000")),
        (Provider.SUPABASE, ("max_standby_streaming_delay=15min",)),
        (Provider.NEON, ("support",)),
        (Provider.AURORA, ("max_standby_streaming_delay = 30000", "writer")),
    ],
)
def test_each_provider_has_its_own_way(provider: Provider, parts: tuple[str, ...]) -> None:
    hint = told(provider, max_standby_streaming_delay="14000").hint
    assert all(part in hint for part in parts)


def test_more_than_thirty_seconds_there_are_not_at_aurora() -> None:
    assert told(Provider.AURORA).verdict is Verdict.PASSED
    assert "cancelled after 30 s" in told(Provider.AURORA).fact
