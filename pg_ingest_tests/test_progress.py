"""How far a load is, in percent and time."""

from __future__ import annotations

import pytest

from pg_ingest.defs.progress import TableProgress, for_people
from pg_ingest.progress import Progress


@pytest.mark.parametrize(
    ("now", "percent", "left"),
    [
        (Progress(500, 1, 10.0), None, None),
        (Progress(500, 1, 10.0, expected=2000), 25, 30.0),
        (Progress(500, 1, 10.0, expected=2000, earlier=1000), 75, 10.0),
        (Progress(0, 0, 10.0, expected=2000, earlier=1000), 50, None),
        (Progress(2500, 1, 10.0, expected=2000), 99, None),
        (Progress(5, 1, 0.1, expected=2000), 0, None),
    ],
)
def test_percent_and_time_left(now: Progress, percent: int | None, left: float | None) -> None:
    assert (now.percent, now.seconds_left) == (percent, left)


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.4, "7s"), (89, "89s"), (150, "2m"), (3599, "1h00m"), (7500, "2h05m")]
)
def test_for_people(seconds: float, text: str) -> None:
    assert for_people(seconds) == text


def test_in_a_log_line() -> None:
    now = Progress(500, 5_000_000, 10.0, expected=2000, earlier=1000)
    told = str(TableProgress.of(("shop", "public", "t"), "db", now))
    assert told == (
        "table=public.t database=db rows=1,500 bytes=5,000,000 rate=0.5MB/s done=75% left=10s"
    )
