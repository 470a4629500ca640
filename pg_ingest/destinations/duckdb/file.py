"""The one DuckDB file: opened only while in use, by one process at a time.

DuckDB locks its file for the whole process: while one may write, no other can open it, not even to
read. So the file is open only inside `reading` and `writing`, and a locked file is tried again, with
growing pauses, for `patience` seconds.

Inside one process all connections must share one database instance (a second one with other
settings is refused), so the instances live in a table by path, with a count of their users: the
last one out closes the file. Writers queue, because a load owns its file from its first row to its
commit; readers (bookmark, status) go beside a writer and see what was committed before.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from pg_ingest.destinations.duckdb import faults

log = logging.getLogger(__name__)

SILENT_SECONDS = 2.0
"""A wait for another process that lasts longer is told: who watches should know whom to ask."""

MEMORY_LIMIT = "256MB"
"""DuckDB's buffers. 6 M rows x 16 columns: 128 MB 6.5 s, 192 MB 5.6 s, 256 MB 2.8 s, 400 MB 2.7 s."""

THREADS = min(4, os.cpu_count() or 1)
"""Each thread holds row groups of its own while it writes, so more would need more memory."""

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    "threads": THREADS,
    "preserve_insertion_order": False,
    "autoinstall_known_extensions": False,
}


@dataclass
class _Instance:
    """The open database of one path in this process, and who uses it."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    writer: threading.RLock = field(default_factory=threading.RLock)
    connection: duckdb.DuckDBPyConnection | None = None
    read_only: bool = False
    users: int = 0


_instances: dict[Path, _Instance] = {}
_instances_lock = threading.Lock()


def _instance(path: Path) -> _Instance:
    with _instances_lock:
        return _instances.setdefault(path, _Instance())


@dataclass(frozen=True, slots=True)
class DuckDbFile:
    """A DuckDB database file that need not exist yet.

    Attributes:
        patience: seconds to wait for another process to let go of it.
    """

    path: Path
    patience: float = 30.0

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection that only reads, None when there is no file yet.

        A log beside the file was left by a process that died; bringing it into the file takes a
        connection that may write. Raises DestinationBusy and DestinationFailed.
        """
        if self.path.exists():
            log = self.path.with_name(self.path.name + ".wal")
            with self._connection(read_only=not log.exists()) as connection:
                yield connection
        else:
            yield None

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write; other writers of this process wait until it is given back.

        Makes the file and its folder when missing. Raises DestinationBusy and DestinationFailed.
        """
        with faults.translated(self.path, "make the folder"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with (
            _instance(self.path.resolve()).writer,
            self._connection(read_only=False) as connection,
        ):
            yield connection

    @contextmanager
    def _connection(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        instance = _instance(self.path.resolve())
        with instance.changed:
            while instance.users and instance.read_only and not read_only:
                instance.changed.wait()
            if instance.connection is None:
                instance.connection = self._open(read_only=read_only)
                instance.read_only = read_only
            connection = instance.connection.cursor()
            instance.users += 1
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()
            with instance.changed:
                instance.users -= 1
                if not instance.users:
                    instance.connection.close()
                    instance.connection = None
                instance.changed.notify_all()

    def _open(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        started = time.monotonic()
        pause = 0.02
        told = False
        while True:
            try:
                return duckdb.connect(self.path, read_only=read_only, config=_SETTINGS)
            except duckdb.Error as error:
                waited = time.monotonic() - started
                if not faults.is_locked(error):
                    with faults.translated(self.path, "open the DuckDB file"):
                        raise
                if waited >= self.patience:
                    raise faults.busy(self.path, error, waited) from error
                if waited >= SILENT_SECONDS and not told:
                    told = True
                    who = faults.holder_of(error)
                    log.warning("waiting for %s to let go of %s", who, self.path)
            time.sleep(min(pause, max(0.0, self.patience - waited)))
            pause = min(pause * 1.5, 1.0)
