"""Quiet hours (`limits.quiet_hours`): what starts by itself does not start in them.

Schedules start no run. The slot sensor starts one only beyond `log.lag_warn`, because a disk that fills up is
worse for the source than a reader. A run that a schedule or sensor has started goes on with the table it is at
and begins no other; those keep their last rows and are not marked as failed. The log-based step is one piece:
once begun, it captures and applies all it has. Who presses a button means it: runs started by hand, by
`pg-ingest sync` or by a backfill go on, with a note.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import dagster as dg

from pg_ingest.config.log import LogConfig
from pg_ingest.config.quiet_hours import quiet_until
from pg_ingest.defs.route import Route

_STARTERS = ("dagster/schedule_name", "dagster/sensor_name")


NEVER = 1 << 62
"""More bytes than a log ever has."""


def patient(route: Route, log: LogConfig) -> LogConfig:
    """The settings by which the slot sensor judges now: in quiet hours only `lag_warn` moves it."""
    return log.model_copy(update={"lag_sync": NEVER}) if quiet_now(route) else log


def quiet_now(route: Route, moment: datetime | None = None) -> str:
    """`quiet hours of shop until 18:00 Europe/Berlin`; empty when it is not quiet at that moment, or now."""
    windows = route.settings.limits.quiet_hours
    until = quiet_until(windows, moment or datetime.now(UTC))
    if until is None:
        return ""
    zone = windows[0].timezone
    there = until.astimezone(ZoneInfo(zone))
    return f"quiet hours of {route.source} until {there:%Y-%m-%d %H:%M} {zone}"


def is_left_alone(context: dg.AssetExecutionContext, route: Route, what: str) -> bool:
    """Whether `what` is not to be begun now, and saying so in the run's log."""
    quiet = quiet_now(route)
    if not quiet:
        return False
    if any(tag in context.run.tags for tag in _STARTERS):
        context.log.warning(f"{what} is not begun: {quiet}")
        return True
    context.log.info(f"{what} is begun by hand in the {quiet}")
    return False
