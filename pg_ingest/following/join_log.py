"""A table joins the log in one pass: by a snapshot of all rows, or by what differs from those that are stored.

The session is over before the commit. Who wrote to the table when the capture was over and has ended before the
snapshot is seen by it, and whoever committed before the captured position did write then or earlier. So if they
all end soon, what has been captured until now need not be looked at any more.

A commit that a crash of the server takes back would leave its rows here, and its transaction id to another one,
which would then be left out as seen. So nothing is stored before it is on disk there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from pg_ingest.batch import Reading
from pg_ingest.bookmark import Bookmark, LogBasedBookmark, method_of
from pg_ingest.errors import (
    BookmarkUnusable,
    DestinationFailed,
    KeyNotUnique,
    MethodUnavailable,
    PermissionMissing,
    StatementCancelled,
)
from pg_ingest.following.ask_source import SourceLine
from pg_ingest.following.capture_log import LogCapture
from pg_ingest.following.load_log import TableLoad
from pg_ingest.following.share_anchor import SharedAnchor
from pg_ingest.lsn import Lsn
from pg_ingest.methods import log_based
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.methods.taken_over import taken_over
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.flushed import survives
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Anchor
from pg_ingest.postgres.writers import wait_for_writers
from pg_ingest.table import Table

SETTLE_SECONDS = 1.0
"""How long a snapshot waits for writers, only to save work: without it the log is looked at from its begin."""

_Read = Callable[[Session, Table, Anchor | None], AbstractContextManager[Reading]]

_NOT_SO = (
    MethodUnavailable,
    PermissionMissing,
    BookmarkUnusable,
    StatementCancelled,
    KeyNotUnique,
    DestinationFailed,
)
"""What may keep the old method from being read or stored once more, and a snapshot of all rows may not mind."""


@dataclass(frozen=True, slots=True)
class Join:
    """One table about to join."""

    server: Server
    capture: LogCapture
    line: SourceLine
    anchor: SharedAnchor
    load: TableLoad

    def at_once(self, before: Bookmark | None) -> LogBasedBookmark:
        """Replace the stored rows by a snapshot; `before` is what the destination must have until then."""

        def read(
            session: Session, table: Table, anchor: Anchor | None
        ) -> AbstractContextManager[Reading]:
            inserts_only = self.capture.inserts_only
            return log_based.snapshot(
                *(session, self.load.replication, table), inserts_only=inserts_only, anchor=anchor
            )

        return self._join(before, read)

    def from_another(self, before: Bookmark) -> LogBasedBookmark | None:
        """Go on from what another method has stored; None, and it is said why, where all rows must be read."""

        def read(
            session: Session, table: Table, _anchor: Anchor | None
        ) -> AbstractContextManager[Reading]:
            inserts_only = self.capture.inserts_only
            return taken_over(
                *(session, self.load.replication, table, before), inserts_only=inserts_only
            )

        def refuse(session: Session) -> None:
            if session.is_standby:
                raise ReadAnew("the source is a standby")

        try:
            return self._join(before, read, refuse)
        except ReadAnew as reason:
            why = str(reason)
        except _NOT_SO as error:
            why = error.message
        was = f"the method was {method_of(before)} before"
        self.load.anew(why if why.startswith(was) else f"{was}: {why}")
        return None

    def _join(
        self,
        before: Bookmark | None,
        read: _Read,
        refuse: Callable[[Session], None] = lambda _session: None,
    ) -> LogBasedBookmark:
        self.line.hang_up()
        with ExitStack() as staging:
            with self.server.session(self.capture.database) as session:
                refuse(session)
                anchor = staging.enter_context(self.anchor.seen_from(session))
                table = describe(session, self.load.replication.table)
                settled = not anchor and not wait_for_writers(session, [table], SETTLE_SECONDS)
                with read(session, table, anchor) as reading:
                    assert isinstance(reading.bookmark, LogBasedBookmark)
                    bookmark = reading.bookmark
                    if settled:
                        seen = Lsn(self.capture.captured.position - 1)
                        bookmark = replace(bookmark, lsn=str(seen))
                    reading.bookmark = bookmark
                    commit = self.load.staged(reading, staging, expected=before)
                    survives(session, Lsn.parse(bookmark.joined_lsn), math.inf)
            commit()
        return bookmark
