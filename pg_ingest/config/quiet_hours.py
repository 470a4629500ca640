"""Hours in which a source is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from pg_ingest.config.problem import refuse
from pg_ingest.config.schedule import Clock, Timezone
from pg_ingest.config.strict import Strict

_DAY = timedelta(days=1)


class Weekday(StrEnum):
    """A day of the week, by its first three letters."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


ALL_DAYS = tuple(Weekday)


class QuietHours(Strict):
    """One window of the day, by the clock on the wall of its time zone; it may pass midnight."""

    from_: Clock = Field(alias="from", description='When it begins, "HH:MM".')
    to: Clock = Field(description='When it ends, "HH:MM"; earlier than `from`: on the next day.')
    days: tuple[Weekday, ...] = Field(
        default=ALL_DAYS,
        min_length=1,
        description="The days it begins on; all without it.",
        json_schema_extra={"default": None},
    )
    timezone: Timezone = Field(default="UTC", description="Time zone of the clock.")

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.from_ == self.to:
            raise refuse(
                "begins when it ends",
                'write two times, for example {from: "08:00", to: "18:00"}',
            )
        return self

    def end_of(self, moment: datetime) -> datetime | None:
        """When the window that `moment` lies in ends, UTC; None when it lies in none.

        Args:
            moment: with its time zone.
        """
        here = moment.astimezone(ZoneInfo(self.timezone))
        for begun in (here.date(), here.date() - _DAY):
            if ALL_DAYS[begun.weekday()] not in self.days:
                continue
            last = begun if self.from_ < self.to else begun + _DAY
            start, end = self._at(begun, self.from_), self._at(last, self.to)
            if start <= moment < end:
                return end
        return None

    def _at(self, day: Any, clock: time) -> datetime:
        """That time on the wall, as a moment: one that a change of the clocks leaves out is taken as if it
        had not."""
        local = datetime.combine(day, clock, ZoneInfo(self.timezone))
        return local.astimezone(UTC)


def quiet_until(windows: Sequence[QuietHours], moment: datetime) -> datetime | None:
    """When the quiet that holds at `moment` ends, UTC; None when it is not quiet.

    Windows that touch or overlap are one quiet; what would never end is cut off after a week.
    """
    until: datetime | None = None
    limit = moment + 7 * _DAY
    reached = moment
    while reached < limit:
        ends = [end for window in windows if (end := window.end_of(reached)) is not None]
        if not ends:
            break
        until = reached = max(ends)
    return until


def _windows(value: Any) -> Any:
    return [value] if isinstance(value, dict | QuietHours) else value


SomeQuietHours = Annotated[tuple[QuietHours, ...], BeforeValidator(_windows)]
"""One window or a list of them."""
