"""Runs executed in this process, through Dagster, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)

from pg_ingest.cli.logged_outcomes import logged_outcomes
from pg_ingest.cli.outcomes import INTERRUPTED, Outcome, failed, outcomes_of
from pg_ingest.cli.plan import PlannedRun, plan_job
from pg_ingest.cli.targets import Chosen
from pg_ingest.config.load import LoadedConfig
from pg_ingest.config.selection import Selection
from pg_ingest.defs.assets import DATABASE_TAG, op_name
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.jobs import sync_jobs
from pg_ingest.defs.log_names import change_log_key, is_logged, log_op_name
from pg_ingest.defs.partitions import dynamic_name
from pg_ingest.defs.processes import end_dead_runs
from pg_ingest.defs.route import Route
from pg_ingest.errors import PgIngestError
from pg_ingest.table import SourceCatalog

_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}
_LOUD = {"console": {"config": {"log_level": "DEBUG"}}}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for: tables, databases ((): all), windows (None: the due ones)."""

    tables: Chosen
    databases: tuple[str, ...] = ()
    windows: tuple[str, str] | None = None
    reset: bool = False
    verbose: bool = False


class Runner:
    """Plans and executes the runs of one `sync`."""

    def __init__(
        self,
        loaded: LoadedConfig,
        catalogs: Mapping[str, SourceCatalog],
        selections: Mapping[str, Selection],
        instance: dg.DagsterInstance,
    ) -> None:
        self.config = loaded.config
        self.selections = selections
        self.instance = instance
        self.definitions = build_definitions(loaded, catalogs)

    def run(self, wanted: Wanted) -> Iterator[Outcome]:
        """Execute everything; one outcome per table and database, as they come."""
        end_dead_runs(self.instance)
        planned = self.plan(wanted)
        shut: dict[tuple[str, str], PgIngestError | None] = {}
        for one in planned:
            door = one.replications[0].source, one.database
            if door not in shut:
                shut[door] = self._knock(*door)
            error = shut[door]
            if error is not None:
                yield from (failed(table, one.database, error) for table in one.replications)
            else:
                outcomes = self._execute(one, wanted)
                yield from outcomes
                if any(outcome.error == INTERRUPTED for outcome in outcomes):
                    return

    def plan(self, wanted: Wanted) -> list[PlannedRun]:
        """The runs, source by source and database by database."""
        planned = []
        for source, tables in wanted.tables.items():
            selection = self.selections[source]
            if selection.dynamic_databases and selection.databases:
                name = dynamic_name(source)
                self.instance.add_dynamic_partitions(name, list(selection.databases))
            jobs = sync_jobs(source, selection.replications)
            for database in selection.databases:
                if wanted.databases and database not in wanted.databases:
                    continue
                for job in jobs:
                    planned += plan_job(
                        self.instance, job, tables, database, wanted.windows, reset=wanted.reset
                    )
        return planned

    def _knock(self, source: str, database: str) -> PgIngestError | None:
        """Why the database cannot be entered: told once, and not by every table after retries."""
        try:
            with Route(source, self.config).server.session(database):
                return None
        except PgIngestError as error:
            return error

    def _execute(self, run: PlannedRun, wanted: Wanted) -> list[Outcome]:
        steps = {op_name(table): table for table in run.replications if not is_logged(table)}
        logged = [table for table in run.replications if is_logged(table)]
        logs = {log_op_name(table.source): change_log_key(table.source) for table in logged}
        config = {"config": {"reset": True}}
        tables = [dg.AssetKey(list(table.asset_key)) for table in run.replications]
        result = self.definitions.resolve_job_def(run.job).execute_in_process(
            instance=self.instance,
            asset_selection=[*logs.values(), *tables],
            raise_on_error=False,
            run_config={
                "loggers": _LOUD if wanted.verbose else _QUIET,
                "ops": dict.fromkeys([*steps, *logs], config) if wanted.reset else {},
            },
            **_partition(run),
        )
        window = " … ".join(dict.fromkeys(run.windows)) if run.windows else ""
        outcomes = outcomes_of(result.all_events, steps, run.database, window)
        return outcomes + logged_outcomes(result.all_events, logged, run.database)


def _partition(run: PlannedRun) -> dict[str, Any]:
    tags = {DATABASE_TAG: run.database}
    if run.windows is None:
        return {"partition_key": run.database, "tags": tags}
    first, last = (f"{run.database}|{window}" for window in run.windows)
    span = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
    return {"tags": {**tags, **span}}


def count_tables(runs: Sequence[PlannedRun]) -> int:
    """How many loads the runs consist of."""
    return sum(len(run.replications) for run in runs)
