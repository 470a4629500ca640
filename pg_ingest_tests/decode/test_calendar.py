from __future__ import annotations

import pyarrow as pa
import pytest

from pg_ingest_tests.decode.making import decode, reasons, ticks

DAY = 86_400_000_000
YEAR_12024 = (19_723 + 3_652_425) * DAY


def test_ordinary_dates_and_infinity() -> None:
    decoded = decode(["1970-01-01", "2024-02-29", "infinity", "-infinity", None], "date")
    assert decoded.values.type == pa.date32()
    assert ticks(decoded.values) == [0, 19782, 2147483647, -2147483647, None]
    assert decoded.problems is None


def test_the_whole_range_of_dates() -> None:
    texts = ["4714-11-24 BC", "0001-12-31 BC", "0001-01-01", "9999-12-31", "10000-01-01"]
    decoded = decode([*texts, "5874897-12-31"], "date")
    assert ticks(decoded.values) == [-2440588, -719163, -719162, 2932896, 2932897, 2145042905]
    assert decoded.problems is None


def test_timestamps_of_all_eras() -> None:
    texts = ["2024-02-29 00:00:00.5", "0044-03-15 12:00:00.000001 BC", "12024-01-01 00:00:00"]
    decoded = decode([*texts, None, "infinity", "-infinity"], "timestamp")
    ends = [None, 2**63 - 1, -(2**63 - 1)]
    caesar = -735160 * DAY + DAY // 2 + 1
    assert ticks(decoded.values) == [19782 * DAY + 500_000, caesar, YEAR_12024, *ends]
    assert decoded.problems is None


def test_timestamps_with_time_zone_are_utc() -> None:
    texts = ["2024-02-29 00:00:00+00", "0044-03-15 00:00:00.5+00 BC", "12024-01-01 00:00:00+00"]
    decoded = decode(texts, "timestamptz")
    assert decoded.values.type == pa.timestamp("us", "UTC")
    assert ticks(decoded.values) == [19782 * DAY, -735160 * DAY + 500_000, YEAR_12024]


def test_timestamps_end_where_64_bits_end() -> None:
    last = "294247-01-10 04:00:54.775806"
    late = ["294247-01-10 04:00:54.775807", "294247-01-11 00:00:00", "294276-12-31 23:59:59.999999"]
    decoded = decode([last, *late, "4714-11-24 00:00:00 BC"], "timestamp")
    assert ticks(decoded.values) == [2**63 - 2, None, None, None, -2440588 * DAY]
    too_late = "later than 294247-01-10, where 64 bits of microseconds end"
    assert reasons(decoded) == [None, too_late, too_late, too_late, None]


def test_times_include_midnight_at_the_end() -> None:
    decoded = decode(["00:00:00", "23:59:59.999999", "12:34:56.5", None, "24:00:00"], "time")
    assert decoded.values.type == pa.time64("us")
    assert ticks(decoded.values) == [0, DAY - 1, 45_296_500_000, None, DAY]
    assert decoded.problems is None
    assert ticks(decode(["01:02:03", None], "time").values) == [3_723_000_000, None]


@pytest.mark.parametrize(
    ("name", "good", "bad", "reason"),
    [
        (
            "date",
            "2024-02-29",
            ["2024-02-30", "1900-02-29", "0000-00-00", "29.02.2024", ""],
            "not a date",
        ),
        (
            "timestamp",
            "2024-02-29 00:00:00",
            ["soon", "12024-02-29", "12024-13-01 00:00:00"],
            "not a timestamp",
        ),
        ("time", "12:00:00", ["24:00:01", "noon"], "not a time"),
    ],
)
def test_what_cannot_be_read_is_refused_alone(
    name: str, good: str, bad: list[str], reason: str
) -> None:
    decoded = decode([good, *bad, None], name)
    assert decoded.values.null_count == len(bad) + 1
    assert decoded.values.slice(0, 1).equals(decode([good], name).values)
    assert reasons(decoded) == [None, *[reason] * len(bad), None]


@pytest.mark.parametrize("name", ["date", "time", "timestamp", "timestamptz"])
def test_columns_of_nulls_and_empty_columns(name: str) -> None:
    assert decode([None, None], name).values.to_pylist() == [None, None]
    assert len(decode([], name).values) == 0
