"""From `every` + `anchor` to cron, where cron can say it.

Cron repeats within an hour or a day, so it expresses intervals that divide one of them. Any other
interval (45 minutes, 36 hours) becomes a tick each minute, of which those count that are a whole
number of intervals away from the anchor on 1970-01-01: no drift, whatever was restarted when. In a
zone with daylight saving such an interval keeps its length, not its clock time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pg_ingest.config.model import CronSchedule, EverySchedule

_HOUR = 60
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule ticks: a cron line in a time zone, and which of its ticks count."""

    cron: str
    timezone: str
    every: EverySchedule | None = None

    def is_due(self, tick: datetime) -> bool:
        """Whether this tick (timezone-aware) counts."""
        if self.every is None:
            return True
        origin = datetime(1970, 1, 1, tzinfo=self.every.zone).timestamp()
        minutes = round((tick.timestamp() - origin) / 60) - self.every.anchor_minutes
        return minutes % (self.every.seconds // 60) == 0


def timing(schedule: EverySchedule | CronSchedule) -> Timing:
    """The ticks of a schedule of the configuration."""
    if isinstance(schedule, CronSchedule):
        return Timing(schedule.cron, schedule.timezone)
    cron = _cron(schedule.seconds // 60, schedule.anchor_minutes)
    if cron is None:
        return Timing("* * * * *", schedule.timezone, schedule)
    return Timing(cron, schedule.timezone)


def _cron(minutes: int, anchor: int) -> str | None:
    hour, minute = divmod(anchor, _HOUR)
    if minutes == 1:
        return "* * * * *"
    if _HOUR % minutes == 0:
        return f"{_every(minute % minutes, _HOUR, minutes)} * * * *"
    if minutes % _HOUR == 0 and _DAY % minutes == 0:
        hours = minutes // _HOUR
        return f"{minute} {_every(hour % hours, 24, hours)} * * *"
    return None


def _every(first: int, end: int, step: int) -> str:
    return ",".join(str(value) for value in range(first, end, step))
