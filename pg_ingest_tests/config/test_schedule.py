"""Schedules are data: seconds, minutes, a zone; a cron line that passes is one Dagster takes."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.config.cron import cron_fault
from pg_ingest.config.schedule import CronSchedule, EverySchedule
from pg_ingest_tests.config.conftest import source, whole


def schedule(load: Any, **settings: str) -> Any:
    return load(whole(sources={"shop": source(schedule=settings)})).config.sources["shop"].schedule


@pytest.mark.parametrize(
    ("every", "seconds"), [("1m", 60), ("90m", 5400), ("6h", 21600), ("1d", 86400), ("120s", 120)]
)
def test_every(load: Any, every: str, seconds: int) -> None:
    found = schedule(load, every=every)
    assert isinstance(found, EverySchedule)
    assert found.every == timedelta(seconds=seconds)
    assert (found.seconds, found.anchor_minutes, found.zone) == (seconds, 0, ZoneInfo("UTC"))


def test_anchor_and_zone(load: Any) -> None:
    found = schedule(load, every="1d", anchor="02:30", timezone="Europe/Rome")
    assert (found.anchor_minutes, found.zone) == (150, ZoneInfo("Europe/Rome"))
    assert found.model_dump(mode="json") == {
        "every": "86400s",
        "anchor": "02:30",
        "timezone": "Europe/Rome",
    }


def test_an_anchor_needs_no_quotes(load: Any) -> None:
    text = """
destination: {path: w}
sources:
  shop:
    {host: h, user: u, databases: [d], method: full_table, tables: {a.b: },
     schedule: {every: 1h, anchor: 12:30}}
"""
    assert load(text).config.sources["shop"].schedule.anchor_minutes == 750


def test_cron(load: Any) -> None:
    found = schedule(load, cron=" */15  * * * mon-fri ", timezone="Asia/Kolkata")
    assert found == CronSchedule(cron="*/15 * * * mon-fri", timezone="Asia/Kolkata")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "has 0 fields instead of five"),
        ("@daily", "has 1 field instead of five"),
        ("0 0 * * * *", "has 6 fields instead of five"),
        ("60 * * * *", "has the minute 60, which is not between 0 and 59"),
        ("* 24 * * *", "has the hour 24, which is not between 0 and 23"),
        ("* * 0 * *", "has the day of month 0, which is not between 1 and 31"),
        ("* * * 13 *", "has the month 13, which is not between 1 and 12"),
        ("* * * jab *", "has the month jab, which is not between 1 and 12"),
        ("* * * * 8", "has the day of week 8, which is not between 0 and 7"),
        ("*/0 * * * *", "has the minute */0, which is not between 0 and 59"),
        ("*/60 * * * *", "has the minute */60, which is not between 0 and 59"),
        ("5-1 * * * *", "has the minute 5-1, which is not between 0 and 59"),
        ("1, * * * *", "has the minute 1,, which is not between 0 and 59"),
        ("0 0 30 2 *", "names a day that its months do not have"),
        ("0 0 31 4,6 *", "names a day that its months do not have"),
    ],
)
def test_cron_faults(line: str, fault: str) -> None:
    assert cron_fault(line) == fault


numbers = st.integers(0, 61).map(str) | st.sampled_from(
    ["jan", "dec", "sun", "SAT", "x", "-1", "٣"]
)
ranges = st.tuples(numbers, numbers).map("-".join)
parts = st.one_of(numbers, ranges, st.just("*"))
stepped = st.one_of(parts, st.tuples(parts, st.integers(0, 70).map(str)).map("/".join))
fields = st.lists(stepped, min_size=1, max_size=2).map(",".join)


@given(st.lists(st.one_of(st.just("*"), fields), min_size=5, max_size=5).map(" ".join))
def test_what_passes_here_passes_in_dagster(line: str) -> None:
    """Dagster also warns of steps beyond the range, and of `0-0` by mistake: not what is asked here."""
    if cron_fault(line) is None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found a cron schedule with an interval greater")
            dg.ScheduleDefinition(name="s", job_name="j", cron_schedule=line)


@pytest.mark.parametrize(
    "line",
    [
        "* * * * *",
        "*/15 * * * *",
        "0 2 * * 1-5",
        "5,35 0-6/2 1 jan,jul *",
        "0 0 29 2 *",
        "0 0 31 4 mon",
    ],
)
def test_cron_lines_that_are_right(line: str) -> None:
    assert cron_fault(line) is None
    dg.ScheduleDefinition(name="s", job_name="j", cron_schedule=line)
