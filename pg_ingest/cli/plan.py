"""Which Dagster runs a `sync` consists of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pg_ingest.config.model import PartitionBy
from pg_ingest.config.selection import Replication

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from pg_ingest.defs.jobs import SyncJob


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: these tables of one job in one database, for `windows` (first, last) or None."""

    job: str
    database: str
    replications: tuple[Replication, ...]
    windows: tuple[str, str] | None = None


def plan_job(
    instance: DagsterInstance,
    job: SyncJob,
    tables: Sequence[Replication],
    database: str,
    wanted: tuple[str, str] | None,
    *,
    reset: bool = False,
) -> list[PlannedRun]:
    """The runs of one job in one database; none when it holds none of the tables.

    Resetting a windowed table loads all its windows. Otherwise, without `wanted`, it gets the windows
    that this Dagster instance has no materialisation of, and the two newest, in as few runs as there
    are gaps.
    """
    keys = {one.asset_key for one in tables}
    chosen = tuple(one for one in job.replications if one.asset_key in keys)
    if not chosen:
        return []
    if job.windows is None:
        return [PlannedRun(job.name, database, chosen)]
    known = window_keys(job.windows)
    indexes: Iterable[int]
    if wanted is not None:
        indexes = range(_index(known, wanted[0]), _index(known, wanted[1]) + 1)
    else:
        indexes = range(len(known)) if reset else _due(instance, chosen, database, known)
    spans = _spans(sorted(indexes))
    return [PlannedRun(job.name, database, chosen, (known[a], known[b])) for a, b in spans]


def window_keys(partition_by: PartitionBy) -> list[str]:
    """All windows up to now, oldest first."""
    from pg_ingest.defs.partitions import windows

    return list(windows(partition_by).get_partition_keys())


def _due(
    instance: DagsterInstance, tables: Sequence[Replication], database: str, known: Sequence[str]
) -> set[int]:
    import dagster as dg

    due = set(range(len(known))[-2:])
    for table in tables:
        done = instance.get_materialized_partitions(dg.AssetKey(list(table.asset_key)))
        due |= {n for n, key in enumerate(known) if f"{database}|{key}" not in done}
    return due


def _index(known: Sequence[str], key: str) -> int:
    if key not in known:
        span = f"{known[0]} to {known[-1]}" if known else "none yet"
        raise click.UsageError(f"there is no window {key}; there are {span}")
    return known.index(key)


def _spans(indexes: Sequence[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for index in indexes:
        if spans and spans[-1][1] == index - 1:
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
    return spans
