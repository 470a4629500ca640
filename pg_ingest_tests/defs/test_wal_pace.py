"""How fast a log grows, and what that says about the future."""

from __future__ import annotations

import pytest

from pg_ingest.defs.wal_pace import FAR_SECONDS, HALF_LIFE_SECONDS, Pace


def test_one_look_says_nothing() -> None:
    assert Pace(1000, 0.0).seconds_until(10) is None


def test_two_looks_give_a_rate() -> None:
    pace = Pace(1000, 0.0).seen(4000, 60.0)
    assert pace == Pace(4000, 60.0, 50.0)
    assert pace.seconds_until(500) == 10.0
    assert pace.seconds_until(-1) == 0.0
    assert pace.seconds_until(None) is None


def test_what_was_half_a_life_ago_counts_half() -> None:
    pace = Pace(0, 0.0, 100.0).seen(0, HALF_LIFE_SECONDS)
    assert pace.rate == pytest.approx(50.0)


def test_many_looks_come_to_the_same_as_few() -> None:
    few = Pace(0, 0.0, 0.0).seen(60_000, 600.0)
    many = Pace(0, 0.0, 0.0)
    for minute in range(1, 11):
        many = many.seen(6_000 * minute, 60.0 * minute)
    assert many.rate == pytest.approx(few.rate)


def test_the_same_moment_changes_nothing() -> None:
    pace = Pace(1000, 5.0, 7.0)
    assert pace.seen(2000, 5.0) == pace


def test_a_log_that_begins_again_is_learnt_anew() -> None:
    assert Pace(1000, 5.0, 7.0).seen(500, 6.0) == Pace(500, 6.0)


def test_the_far_future_is_not_told() -> None:
    pace = Pace(0, 0.0, 1.0)
    assert pace.seconds_until(int(FAR_SECONDS)) == FAR_SECONDS
    assert pace.seconds_until(int(FAR_SECONDS) + 1) is None
