"""Partitions: the source database, and the time window of tables with `partition_by`.

All assets of a source share one definition of its databases, so that they fit into one job. Windows
are half-open, in UTC, and aligned to their unit (weeks start on Monday, as `date_trunc` has it); the
newest one is the window that is not over yet. Neighbouring windows of one run are merged into one
bigger window: replacing a window is idempotent, and one COPY reads the source once.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from pg_ingest.config.model import PartitionBy
from pg_ingest.config.selection import Selection

DATABASE = "database"
WINDOW = "window"


def databases_partitions(source: str, selection: Selection) -> dg.PartitionsDefinition[str]:
    """Static for databases named in the configuration, dynamic (`<source>_databases`) for patterns."""
    if selection.dynamic_databases:
        return dg.DynamicPartitionsDefinition(name=dynamic_name(source))
    return dg.StaticPartitionsDefinition(list(selection.databases))


def dynamic_name(source: str) -> str:
    """Name under which an instance keeps the known databases of a source with patterns."""
    return f"{source}_databases"


def with_windows(
    databases: dg.PartitionsDefinition[str], partition_by: PartitionBy
) -> dg.MultiPartitionsDefinition:
    """`databases` times the windows of `partition_by`; keys look like `shop|2026-01-02`."""
    return dg.MultiPartitionsDefinition({DATABASE: databases, WINDOW: windows(partition_by)})


def windows(partition_by: PartitionBy) -> dg.TimeWindowPartitionsDefinition:
    """The windows from the one that holds `start` to the current one, or to the one before `end`."""
    every = str(partition_by.every)
    start = _floor(partition_by.start, every)
    end = None if partition_by.end is None else _ceiling(partition_by.end, every)
    match every:
        case "hour":
            return dg.HourlyPartitionsDefinition(start, end_date=end, end_offset=1)
        case "day":
            return dg.DailyPartitionsDefinition(start, end_date=end, end_offset=1)
        case "week":
            return dg.WeeklyPartitionsDefinition(start, end_date=end, end_offset=1, day_offset=1)
        case _:
            return dg.MonthlyPartitionsDefinition(start, end_date=end, end_offset=1)


def _floor(value: datetime, every: str) -> datetime:
    moment = value.replace(minute=0, second=0, microsecond=0)
    match every:
        case "hour":
            return moment
        case "day":
            return moment.replace(hour=0)
        case "week":
            return moment.replace(hour=0) - timedelta(days=moment.weekday())
        case _:
            return moment.replace(hour=0, day=1)


def _ceiling(value: datetime, every: str) -> datetime:
    floor = _floor(value, every)
    if floor == value:
        return floor
    days = calendar.monthrange(floor.year, floor.month)[1]
    units = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
    return floor + units.get(every, timedelta(days=days))


@dataclass(frozen=True, slots=True)
class Load:
    """One read of one table: the partitions `keys` of `database`, `window` in ISO 8601 or None."""

    database: str
    keys: tuple[str, ...]
    window: tuple[str, str] | None = None


def loads_of(definition: dg.PartitionsDefinition[Any], keys: Iterable[str]) -> list[Load]:
    """The reads that fill the partitions `keys`: one per database and run of adjoining windows."""
    if not isinstance(definition, dg.MultiPartitionsDefinition):
        return [Load(key, (key,)) for key in keys]
    time_windows = definition.get_partitions_def_for_dimension(WINDOW)
    assert isinstance(time_windows, dg.TimeWindowPartitionsDefinition)
    pieces = []
    for key in keys:
        dimensions = definition.get_partition_key_from_str(str(key)).keys_by_dimension
        window = time_windows.time_window_for_partition_key(dimensions[WINDOW])
        pieces.append((dimensions[DATABASE], window.start, window.end, str(key)))
    return _merged(sorted(pieces))


def _merged(pieces: Sequence[tuple[str, datetime, datetime, str]]) -> list[Load]:
    runs: list[tuple[str, datetime, datetime, tuple[str, ...]]] = []
    for database, start, end, key in pieces:
        if runs and runs[-1][0] == database and runs[-1][2] == start:
            _, first, _, keys = runs.pop()
            runs.append((database, first, end, (*keys, key)))
        else:
            runs.append((database, start, end, (key,)))
    return [Load(d, keys, (start.isoformat(), end.isoformat())) for d, start, end, keys in runs]


def newest_windows(partition_by: PartitionBy, moment: datetime, count: int = 2) -> list[str]:
    """Keys of the newest windows at that moment, oldest first: rows still arrive in the one just over."""
    return list(windows(partition_by).get_partition_keys(current_time=moment)[-count:])
