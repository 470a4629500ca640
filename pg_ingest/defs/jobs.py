"""Jobs: `sync_<source>`, and `sync_<source>_windows` for tables with time windows.

A job holds one partitions definition. Windowed tables of one source that do not all share a window
definition therefore get a job each: `_windows_day`, `_windows_month`, with the start where that alone
does not tell them apart.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from pg_ingest.config.model import PartitionBy
from pg_ingest.config.selection import Replication
from pg_ingest.defs.assets import DESTINATION_TAG, SOURCE_TAG
from pg_ingest.defs.log_names import change_log_key, is_logged
from pg_ingest.defs.partitions import windows
from pg_ingest.defs.route import Route


@dataclass(frozen=True, slots=True)
class SyncJob:
    """One job to be: the tables it replicates, and their windows or None."""

    name: str
    replications: tuple[Replication, ...]
    windows: PartitionBy | None = None

    @property
    def keys(self) -> list[dg.AssetKey]:
        """The tables' assets, and the change log's where one of them is replicated from it."""
        logs = {change_log_key(r.source) for r in self.replications if is_logged(r)}
        return [*logs, *(dg.AssetKey(list(r.asset_key)) for r in self.replications)]


def sync_jobs(source: str, replications: Sequence[Replication]) -> list[SyncJob]:
    """The jobs of a source; none for a source without tables."""
    plain = tuple(r for r in replications if r.partition_by is None)
    jobs = [SyncJob(f"sync_{source}", plain)] if plain else []
    groups: dict[dg.PartitionsDefinition[str], list[Replication]] = defaultdict(list)
    for replication in replications:
        if replication.partition_by is not None:
            groups[windows(replication.partition_by)].append(replication)
    for suffix, group in zip(_suffixes(list(groups.values())), groups.values(), strict=True):
        jobs.append(SyncJob(f"sync_{source}_windows{suffix}", tuple(group), group[0].partition_by))
    return jobs


def _suffixes(groups: Sequence[Sequence[Replication]]) -> list[str]:
    if len(groups) <= 1:
        return [""] * len(groups)
    sizes = [f"_{_window(group).every}" for group in groups]
    starts = [
        f"{size}_{_window(group).start:%Y%m%d}" if sizes.count(size) > 1 else size
        for size, group in zip(sizes, groups, strict=True)
    ]
    return [
        f"{name}_{starts[:n].count(name) + 1}" if starts.count(name) > 1 else name
        for n, name in enumerate(starts)
    ]


def _window(group: Sequence[Replication]) -> PartitionBy:
    window = group[0].partition_by
    assert window is not None
    return window


def dagster_job(route: Route, job: SyncJob) -> Any:
    """The asset job; it takes its partitions from its assets."""
    what = "windowed tables" if job.windows else "tables"
    return dg.define_asset_job(
        job.name,
        selection=dg.AssetSelection.assets(*job.keys).without_checks(),
        description=f"Replicates {len(job.replications)} {what} of {route.source}.",
        tags={SOURCE_TAG: route.source, DESTINATION_TAG: route.pool},
    )
