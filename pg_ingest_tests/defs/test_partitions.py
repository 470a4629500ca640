"""Windows and the loads that fill them."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from pg_ingest.config.model import PartitionBy
from pg_ingest.defs.partitions import Load, loads_of, newest_windows, windows, with_windows

DATABASES = dg.StaticPartitionsDefinition(["app_eu", "app_us"])


def by(every: str, start: str, end: str | None = None) -> PartitionBy:
    return PartitionBy.model_validate(
        {"column": "at", "every": every, "start": start, **({"end": end} if end else {})}
    )


@pytest.mark.parametrize(
    ("every", "start", "end", "keys"),
    [
        ("day", "2024-01-30", "2024-02-02", ["2024-01-30", "2024-01-31", "2024-02-01"]),
        ("day", "2024-01-30T11:00", "2024-01-30T12:00", ["2024-01-30"]),
        ("week", "2024-01-03", "2024-01-09", ["2024-01-01", "2024-01-08"]),
        ("month", "2024-01-31", "2024-03-02", ["2024-01-01", "2024-02-01", "2024-03-01"]),
        ("month", "2024-01-01", "2024-02-01", ["2024-01-01"]),
        ("hour", "2024-01-01T22:30", "2024-01-02", ["2024-01-01-22:00", "2024-01-01-23:00"]),
    ],
)
def test_windows_cover_start_to_end(every: str, start: str, end: str, keys: list[str]) -> None:
    assert list(windows(by(every, start, end)).get_partition_keys()) == keys


@pytest.mark.parametrize("every", ["hour", "day", "week", "month"])
def test_the_newest_window_is_the_current_one(every: str) -> None:
    wanted = by(every, "2026-01-01")
    now = datetime.now(UTC)
    before, current = newest_windows(wanted, now)
    made = windows(wanted)
    window = made.time_window_for_partition_key(current)
    assert window.start <= now < window.end
    assert made.time_window_for_partition_key(before).end == window.start


def test_a_window_starts_with_its_week_on_monday() -> None:
    window = windows(by("week", "2024-01-03")).time_window_for_partition_key("2024-01-01")
    assert window.start == datetime(2024, 1, 1, tzinfo=UTC)
    assert window.end == datetime(2024, 1, 8, tzinfo=UTC)


def test_adjoining_windows_become_one_load_per_database() -> None:
    made = with_windows(DATABASES, by("day", "2024-01-01", "2024-01-10"))
    keys = [
        "app_us|2024-01-02",
        "app_eu|2024-01-03",
        "app_eu|2024-01-01",
        "app_eu|2024-01-02",
        "app_eu|2024-01-07",
    ]
    assert loads_of(made, keys) == [
        Load(
            "app_eu",
            ("app_eu|2024-01-01", "app_eu|2024-01-02", "app_eu|2024-01-03"),
            ("2024-01-01T00:00:00+00:00", "2024-01-04T00:00:00+00:00"),
        ),
        Load(
            "app_eu",
            ("app_eu|2024-01-07",),
            ("2024-01-07T00:00:00+00:00", "2024-01-08T00:00:00+00:00"),
        ),
        Load(
            "app_us",
            ("app_us|2024-01-02",),
            ("2024-01-02T00:00:00+00:00", "2024-01-03T00:00:00+00:00"),
        ),
    ]


def test_without_windows_a_partition_is_a_load() -> None:
    assert loads_of(DATABASES, ["app_us", "app_eu"]) == [
        Load("app_us", ("app_us",)),
        Load("app_eu", ("app_eu",)),
    ]
