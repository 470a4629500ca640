"""A standby that is followed by the log, and its primary, where everything is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following
from pg_ingest_tests.methods.test_standby import Standby, catch_up

NUDGE_SECONDS = 0.05


@dataclass
class FollowedStandby(Following):
    """As Following, of the standby's database; `primary` is the same one where it is written."""

    primary: Database | None = None
    standby: Standby | None = None

    def flush(self) -> None:
        """Let the standby have everything that has committed."""
        assert self.primary is not None and self.standby is not None
        catch_up(self.primary, self.standby)

    def source(self, table: str, where: str = "true") -> list[tuple[Any, ...]]:
        self.flush()
        return super().source(table, where)

    def publish(self, *tables: str) -> None:
        """What an administrator does at the primary."""
        assert self.primary is not None
        self.primary.execute(
            f"create publication {self.publication} for table {', '.join(tables)}"
            " with (publish_via_partition_root)"
        )
        self.flush()


@dataclass
class OlderStandby(Standby):
    """Of a server whose package lacks pg_basebackup: `tools` has a newer one, which will do."""

    tools: Path = field(default_factory=embedded_binaries)

    def _initialise(self) -> None:
        own, self.binaries = self.binaries, self.tools
        super()._initialise()
        self.binaries = own


@contextmanager
def standby_of(primary: Cluster, tools: Path | None = None, **settings: str) -> Iterator[Standby]:
    """A running standby; `tools`: see OlderStandby."""
    address = f"host={primary.host} port={primary.port} user={primary.user}"
    more = {**primary.settings, "primary_conninfo": address, "hot_standby_feedback": "on"}
    with OlderStandby(
        settings={**more, **settings},
        primary=primary,
        binaries=primary.binaries,
        tools=tools or primary.binaries,
    ) as running:
        yield running


@contextmanager
def told(primary: Cluster) -> Iterator[None]:
    """The primary says again and again which transactions run, as it does every 15 s by itself."""
    anywhere = Database("postgres", primary.host, primary.port, primary.user)
    done = threading.Event()

    def tell() -> None:
        with anywhere.connect() as connection:
            while not done.wait(NUDGE_SECONDS):
                connection.execute("select pg_log_standby_snapshot()")

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def following_standby(
    primary: Database, standby: Standby, folder: Path, **options: Any
) -> Iterator[FollowedStandby]:
    """The slot is dropped at the end, so that the database can be too."""
    replica = Database(primary.name, standby.host, standby.port, standby.user)
    found = FollowedStandby(replica, folder, primary=primary, standby=standby, **options)
    try:
        yield found
    finally:
        found.drop()
