"""When a source is synchronised: data only; what is due is decided where the schedules run."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from pg_ingest.config.cron import cron_fault
from pg_ingest.config.problem import did_you_mean, refuse
from pg_ingest.config.strict import Strict

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9})\s*([smhd])")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def seconds_of(value: Any) -> int:
    """Seconds of `90s`, `30m`, `6h`, `1d`, or of a whole number of seconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise refuse("is not a length of time", "write a number and a unit: 30s, 15m, 6h or 1d")
    return int(match[1]) * _UNITS[match[2]]


_DURATION_SCHEMA = {"type": "string", "pattern": r"^\d{1,9}\s*[smhd]$"}

Seconds = Annotated[
    int,
    BeforeValidator(seconds_of),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, _DURATION_SCHEMA]}),
]
"""Seconds; the file may say `6h`."""


def _interval(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int):
        raise refuse("has no unit", "write 30s, 15m, 6h or 1d")
    return timedelta(seconds=seconds_of(value))


Interval = Annotated[
    timedelta,
    BeforeValidator(_interval),
    PlainSerializer(lambda value: f"{round(value.total_seconds())}s", when_used="json"),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""A length of time written with its unit."""


def _clock(value: Any) -> Any:
    if isinstance(value, time):
        return value
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refuse("is not a time of day", 'write "HH:MM", for example "02:00"')
    return time(int(match[1]), int(match[2]))


Clock = Annotated[
    time,
    BeforeValidator(_clock),
    PlainSerializer(lambda value: f"{value:%H:%M}", when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^([01]?\d|2[0-3]):[0-5]\d$"}),
]


def _zone(value: str) -> str:
    zones = available_timezones()
    if value not in zones:
        raise refuse("is not a time zone", did_you_mean_zone(value, zones))
    return value


def did_you_mean_zone(value: str, zones: set[str]) -> str:
    """The nearest zone, or how zones are written."""
    guess = did_you_mean(value, zones)
    return guess if guess.startswith("did") else "write one like Europe/Rome or UTC"


Timezone = Annotated[str, AfterValidator(_zone)]


def _cron(value: str) -> str:
    fault = cron_fault(value)
    if fault:
        raise refuse(fault, 'write five fields, for example "*/15 * * * *"')
    return " ".join(value.split())


Cron = Annotated[str, AfterValidator(_cron)]


def _whole_minutes(value: timedelta) -> timedelta:
    if value < timedelta(minutes=1) or value % timedelta(minutes=1):
        raise refuse("is not a whole number of minutes", "schedules run at most once a minute: 1m")
    return value


class EverySchedule(Strict):
    """A fixed interval, counted from an anchor: each `every` before and after that time of day."""

    every: Annotated[Interval, AfterValidator(_whole_minutes)] = Field(
        description="Interval with unit: 30m, 6h, 1d. At least 1m."
    )
    anchor: Clock = Field(
        default=time(0),
        description='A time of day it runs at, "HH:MM".',
        json_schema_extra={"default": "00:00"},
    )
    timezone: Timezone = Field(default="UTC", description="Time zone of the anchor.")

    @property
    def seconds(self) -> int:
        """The interval."""
        return round(self.every.total_seconds())

    @property
    def anchor_minutes(self) -> int:
        """Minutes from midnight to the anchor."""
        return self.anchor.hour * 60 + self.anchor.minute

    @property
    def zone(self) -> ZoneInfo:
        """The zone of the anchor."""
        return ZoneInfo(self.timezone)


class CronSchedule(Strict):
    """A cron line of five fields."""

    cron: Cron = Field(description="Minute, hour, day of month, month, day of week.")
    timezone: Timezone = Field(default="UTC", description="Time zone the line is meant in.")
