"""Schedules: one per job, with a run per database.

A schedule written in the configuration is on: writing it down is the decision (it can be switched off
in the UI). A database whose last run of the same job has not ended is skipped, so that runs never
pile up behind a slow one. Windowed jobs run the two newest windows, because rows still arrive for the
one just over; older ones are backfilled from the UI or by `pg-ingest sync`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import dagster as dg

from pg_ingest.config.model import CronSchedule, EverySchedule
from pg_ingest.config.selection import Selection
from pg_ingest.defs.assets import DATABASE_TAG
from pg_ingest.defs.jobs import SyncJob
from pg_ingest.defs.partitions import DATABASE, WINDOW, dynamic_name, newest_windows
from pg_ingest.defs.processes import end_dead_runs
from pg_ingest.defs.quiet import quiet_now
from pg_ingest.defs.route import Route
from pg_ingest.defs.timing import timing

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
"""States of a run that has not ended."""


def sync_schedule(
    route: Route,
    job: SyncJob,
    selection: Selection,
    schedule: EverySchedule | CronSchedule,
) -> dg.ScheduleDefinition:
    """The schedule of one job."""
    ticks = timing(schedule)

    @dg.schedule(
        name=f"{job.name}_schedule",
        job_name=job.name,
        cron_schedule=ticks.cron,
        execution_timezone=ticks.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Runs {job.name} for each database of {route.source}.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        moment = context.scheduled_execution_time
        if not ticks.is_due(moment):
            return dg.SkipReason(f"runs every {ticks.every.every if ticks.every else ''}")
        quiet = quiet_now(route, moment)
        if quiet:
            return dg.SkipReason(quiet)
        databases = known_databases(context.instance, route.source, selection)
        if not databases:
            return dg.SkipReason(
                f"no database of {route.source} is known: run `pg-ingest discover`"
            )
        end_dead_runs(context.instance, job.name)
        free = [one for one in databases if not is_active(context.instance, job.name, one)]
        if not free:
            return dg.SkipReason("the runs before this one have not ended")
        return list(run_requests(job, free, moment))

    return tick


def known_databases(
    instance: dg.DagsterInstance, source: str, selection: Selection
) -> Sequence[str]:
    """The partitions of a source: fixed names, or what the instance knows of its pattern."""
    if selection.dynamic_databases:
        return instance.get_dynamic_partitions(dynamic_name(source))
    return selection.databases


def is_active(instance: dg.DagsterInstance, job_name: str, database: str) -> bool:
    """Whether a scheduled run of this job for this database has not ended."""
    unfinished = dg.RunsFilter(
        job_name=job_name, tags={DATABASE_TAG: database}, statuses=UNFINISHED
    )
    return instance.get_runs_count(unfinished) > 0


def run_requests(
    job: SyncJob, databases: Iterable[str], moment: datetime
) -> Iterable[dg.RunRequest]:
    """One run per database, and per newest window where there are windows."""
    for database in databases:
        for key in partition_keys(job, database, moment):
            yield dg.RunRequest(
                run_key=f"{job.name}/{key}/{moment.isoformat()}",
                partition_key=key,
                tags={DATABASE_TAG: database},
            )


def partition_keys(job: SyncJob, database: str, moment: datetime) -> list[str]:
    """The partitions that the runs of a tick fill in this database."""
    if job.windows is None:
        return [database]
    return [
        dg.MultiPartitionKey({DATABASE: database, WINDOW: window})
        for window in newest_windows(job.windows, moment)
    ]
