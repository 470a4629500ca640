"""Progress of a running load: into Dagster's log, and to whoever listens in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from pg_ingest.progress import Progress

LOG_SECONDS = 15.0
"""Seconds between two progress lines of one load in Dagster's log, where each line is stored."""


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How far one load is. `bytes` as PostgreSQL sent them, `seconds` since the load began.

    `percent` and `seconds_left` are None where nobody knows how much there is to read.
    """

    asset: tuple[str, ...]
    database: str
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    percent: int | None = None
    seconds_left: float | None = None

    @classmethod
    def of(cls, asset: tuple[str, ...], database: str, now: Progress) -> TableProgress:
        """What a load reports, with its table."""
        return cls(
            *(asset, database, now.rows + now.earlier, now.bytes, now.seconds),
            percent=now.percent,
            seconds_left=now.seconds_left,
        )

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"table={'.'.join(self.asset[1:])} database={self.database} rows={self.rows:,} "
            f"bytes={self.bytes:,} rate={self.megabytes_per_second:.1f}MB/s{self._ahead()}"
        )

    def _ahead(self) -> str:
        done = "" if self.percent is None else f" done={self.percent}%"
        left = "" if self.seconds_left is None else f" left={for_people(self.seconds_left)}"
        return done + left


def for_people(seconds: float) -> str:
    """`45s`, `12m`, `3h20m`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f}s"
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A passing fault has been met, and the step is tried again after `seconds`."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """What people should know of a load before its first row is read."""

    asset: tuple[str, ...]
    database: str
    text: str

    def __str__(self) -> str:
        return f"table={'.'.join(self.asset[1:])} database={self.database} {self.text}"


Listener = Callable[[TableProgress | Waiting | Announcement], None]

listener: ContextVar[Listener | None] = ContextVar("pg_ingest_progress", default=None)
"""Set by the command line around a run in its own process; None elsewhere."""


def announce(progress: TableProgress | Waiting | Announcement) -> None:
    """Tell the listener, if there is one; a load that begins says so with zeros."""
    hear = listener.get()
    if hear is not None:
        hear(progress)


def say_before(log: Callable[[str], None], announcement: Announcement) -> None:
    """Into Dagster's log and to the listener."""
    log(str(announcement))
    announce(announcement)


class Reporter:
    """Passes each step on to the listener, and one in LOG_SECONDS to the log."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._next = LOG_SECONDS

    def __call__(self, progress: TableProgress) -> None:
        announce(progress)
        if progress.seconds >= self._next:
            self._next = progress.seconds + LOG_SECONDS
            self._log(str(progress))
