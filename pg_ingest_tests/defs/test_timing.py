"""From `every` + `anchor` to ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from pg_ingest.config.model import CronSchedule, EverySchedule
from pg_ingest.defs.timing import Timing, timing


@pytest.mark.parametrize(
    ("every", "anchor", "cron"),
    [
        ("1m", "00:00", "* * * * *"),
        ("30m", "02:00", "0,30 * * * *"),
        ("20m", "02:05", "5,25,45 * * * *"),
        ("15m", "02:50", "5,20,35,50 * * * *"),
        ("1h", "02:10", "10 * * * *"),
        ("60m", "23:10", "10 * * * *"),
        ("6h", "02:00", "0 2,8,14,20 * * *"),
        ("6h", "20:30", "30 2,8,14,20 * * *"),
        ("1d", "02:00", "0 2 * * *"),
        ("24h", "00:00", "0 0 * * *"),
    ],
)
def test_cron_says_it(every: str, anchor: str, cron: str) -> None:
    schedule = EverySchedule.model_validate({"every": every, "anchor": anchor})
    assert timing(schedule) == Timing(cron, "UTC")


@pytest.mark.parametrize(
    ("every", "minutes"), [("45m", 45), ("5h", 300), ("36h", 2160), ("7d", 10080), ("90m", 90)]
)
def test_what_cron_cannot_say_never_drifts(every: str, minutes: int) -> None:
    found = timing(EverySchedule.model_validate({"every": every, "anchor": "02:10"}))
    assert found.cron == "* * * * *"
    start = datetime(2026, 11, 20, tzinfo=UTC)
    ticks = [
        tick
        for tick in (start + timedelta(minutes=n) for n in range(3 * minutes))
        if found.is_due(tick)
    ]
    assert [b - a for a, b in pairwise(ticks)] == [timedelta(minutes=minutes)] * 2
    assert found.is_due(datetime(1970, 1, 1, 2, 10, tzinfo=UTC))


def test_the_anchor_is_in_its_zone() -> None:
    schedule = EverySchedule.model_validate(
        {"every": "36h", "anchor": "02:00", "timezone": "Europe/Rome"}
    )
    assert timing(schedule).is_due(datetime(1970, 1, 1, 2, tzinfo=ZoneInfo("Europe/Rome")))


def test_cron_is_taken_as_it_is() -> None:
    schedule = CronSchedule.model_validate({"cron": "*/15 * * * *", "timezone": "Asia/Tokyo"})
    found = timing(schedule)
    assert found == Timing("*/15 * * * *", "Asia/Tokyo")
    assert found.is_due(datetime(2026, 1, 1, tzinfo=UTC))
