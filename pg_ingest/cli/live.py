"""Progress of a `sync` on the terminal: a live line there, one line in a while in a log file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console

from pg_ingest.defs.progress import Announcement, TableProgress, Waiting, for_people, listener

QUIET_SECONDS = 5.0
"""Between two lines about one table where they stay (a file, a pipe)."""


class Live:
    """Hears about every load and says `table 3 of 20 public.orders: 1,200,000 rows, 85.2 MB/s`."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.begun = 0
        self._current: tuple[object, ...] = ()
        self._said = 0.0
        self._status = console.status("connecting") if console.is_terminal else None

    def __call__(self, progress: TableProgress | Waiting | Announcement) -> None:
        if isinstance(progress, Waiting):
            self.console.print(f"{progress.reason}: trying again in {progress.seconds:.0f} s")
            return
        if isinstance(progress, Announcement):
            name = f"{progress.database}: {'.'.join(progress.asset[1:])}"
            self.console.print(f"{name}: {progress.text}", markup=False)
            return
        current = (progress.asset, progress.database)
        fresh = progress.seconds == 0.0
        if fresh and current != self._current:
            self.begun += 1
            self._current = current
            self._said = monotonic()
        text = self.text(progress)
        if self._status is not None:
            self._status.update(text)
        elif not fresh and monotonic() - self._said >= QUIET_SECONDS:
            self._said = monotonic()
            self.console.print(text)

    def text(self, progress: TableProgress) -> str:
        place = f"table {min(self.begun, self.total)} of {self.total}"
        name = f"{progress.database}: {'.'.join(progress.asset[1:])}"
        speed = f"{progress.megabytes_per_second:.1f} MB/s"
        text = f"{place}  {name}  {progress.rows:,} rows  {speed}"
        if progress.percent is not None:
            text += f"  {progress.percent} %"
        if progress.seconds_left is not None:
            text += f", {for_people(progress.seconds_left)} left"
        return text

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the loads of runs inside the block."""
        token = listener.set(self)
        if self._status is not None:
            self._status.start()
        try:
            yield
        finally:
            listener.reset(token)
            if self._status is not None:
                self._status.stop()
