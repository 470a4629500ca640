"""When a source is left alone, by the clock on its wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pg_ingest.config.quiet_hours import QuietHours, quiet_until
from pg_ingest_tests.config.conftest import source, whole

BERLIN = "Europe/Berlin"


def window(begin: str, end: str, **more: Any) -> QuietHours:
    return QuietHours.model_validate({"from": begin, "to": end, **more})


def at(text: str, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("moment", "until"),
    [
        ("2026-11-20 07:59:59", None),
        ("2026-11-20 08:00:00", "2026-11-20 18:00"),
        ("2026-11-20 17:59:59", "2026-11-20 18:00"),
        ("2026-11-20 18:00:00", None),
    ],
)
def test_a_window_of_the_day(moment: str, until: str | None) -> None:
    found = quiet_until([window("08:00", "18:00", timezone=BERLIN)], at(moment))
    assert found == (None if until is None else at(until))


@pytest.mark.parametrize(
    ("moment", "until"),
    [
        ("2026-11-20 21:59", None),
        ("2026-11-20 22:00", "2026-11-21 06:00"),
        ("2026-11-21 05:59", "2026-11-21 06:00"),
        ("2026-11-21 06:00", None),
    ],
)
def test_a_window_that_passes_midnight(moment: str, until: str | None) -> None:
    found = quiet_until([window("22:00", "06:00", timezone=BERLIN)], at(moment))
    assert found == (None if until is None else at(until))


def test_days_are_those_it_begins_on() -> None:
    friday_night = [window("22:00", "06:00", days=["fri"], timezone=BERLIN)]  # 2026-11-20 is one
    assert quiet_until(friday_night, at("2026-11-20 23:00")) is not None
    assert quiet_until(friday_night, at("2026-11-21 05:00")) is not None
    assert quiet_until(friday_night, at("2026-11-20 05:00")) is None
    assert quiet_until(friday_night, at("2026-11-21 23:00")) is None


def test_windows_that_touch_are_one_quiet() -> None:
    windows = [window("08:00", "12:00"), window("12:00", "14:00"), window("13:00", "18:00")]
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert quiet_until(windows, moment) == datetime(2026, 11, 20, 18, tzinfo=UTC)


def test_a_quiet_that_never_ends_is_cut_off() -> None:
    windows = [window("00:00", "12:00"), window("12:00", "00:00")]
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    until = quiet_until(windows, moment)
    assert until is not None
    assert timedelta(days=7) <= until - moment < timedelta(days=8)


def test_the_clock_on_the_wall_counts_when_clocks_change() -> None:
    quiet = [window("01:30", "03:30", timezone=BERLIN)]
    # 2026-03-29: 02:00 becomes 03:00, so the window is one hour long
    assert quiet_until(quiet, datetime(2026, 3, 29, 0, 29, tzinfo=UTC)) is None
    assert quiet_until(quiet, datetime(2026, 3, 29, 0, 30, tzinfo=UTC)) == datetime(
        2026, 3, 29, 1, 30, tzinfo=UTC
    )
    # 2026-10-25: 03:00 becomes 02:00, so it is three hours long
    begun = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    assert quiet_until(quiet, begun) == begun + timedelta(hours=3)


def test_in_a_file(load: Any) -> None:
    one = {"from": "08:00", "to": "18:00", "timezone": BERLIN}
    for given in (one, [one]):
        limits = {"quiet_hours": given, "max_rate": "20MB"}
        loaded = load(whole(sources={"shop": source(limits=limits)}))
        found = loaded.config.sources["shop"].limits
        assert found.quiet_hours == (window("08:00", "18:00", timezone=BERLIN),)
        assert found.max_rate == 20 << 20


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"quiet_hours": {"from": "08:00", "to": "08:00"}}, "begins when it ends"),
        ({"quiet_hours": {"from": "08:00", "to": "25:00"}}, "is not a time of day"),
        ({"quiet_hours": {"from": "08:00"}}, "to: is missing"),
        ({"quiet_hours": {"from": "08:00", "to": "09:00", "days": []}}, "is an empty list"),
        ({"quiet_hours": {"from": "08:00", "to": "09:00", "days": ["mond"]}}, "did you mean mon?"),
        ({"quiet_hours": {"form": "08:00", "to": "09:00"}}, "did you mean from?"),
        ({"max_rate": "20"}, "is not a size"),
        ({"max_rate": "1kB"}, "is too small"),
    ],
)
def test_refused(refusal: Any, limits: dict[str, Any], words: str) -> None:
    told = " ".join(refusal(whole(sources={"shop": source(limits=limits)})))
    assert words in told
    assert "sources.shop.limits." in told
