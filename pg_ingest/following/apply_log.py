"""From the change log into the destination, table by table.

Each table goes on from its own bookmark; one that has none, that is reset, or whose bookmark is older than
the position since which the log follows it, takes a snapshot first. One that another method has loaded goes on
from that where it can (`methods/taken_over.py`). Every step is one transaction of the
destination with rows and bookmark. A table that fails stays where it was and does not stop the others; what
concerns all of them (the destination is held by another process, the source cannot be reached) is met once.

Two processes may apply the same table at once (the slot's lock is not held here). A step is only right on
the state that its bookmark describes, so the bookmark is looked at again while the stage holds the
destination; if it has moved, the step is given up and its rows are seen again by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pg_ingest.batch import LoadReport
from pg_ingest.bookmark import Bookmark, LogBasedBookmark, method_of
from pg_ingest.changelog.capture import Captured
from pg_ingest.changelog.handover import is_followed
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.timeline import not_of_this_history
from pg_ingest.config.log import Plugin
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.chunks import KeepsChunks
from pg_ingest.destinations.destination import Destination, NotContinued, StreamId
from pg_ingest.errors import (
    DestinationBusy,
    PassingFault,
    PgIngestError,
    SourceUnreachable,
)
from pg_ingest.following.ask_source import SourceLine
from pg_ingest.following.capture_log import LogCapture, capture_again, change_log
from pg_ingest.following.follow_alters import follow_alters, notice_alters
from pg_ingest.following.join_log import Join
from pg_ingest.following.load_log import ApplySettings, TableLoad
from pg_ingest.following.load_log_chunks import LogChunks
from pg_ingest.following.share_anchor import SharedAnchor
from pg_ingest.lsn import Lsn
from pg_ingest.methods import log_based, log_steps
from pg_ingest.methods.filtered import FULL, Passing
from pg_ingest.methods.log_steps import Piece
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.postgres.server import Server
from pg_ingest.table import Column, RelationKind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one table: its report, None when nothing had changed; or why it failed."""

    replication: Replication
    report: LoadReport | None = None
    error: Exception | None = None


def apply_log(
    server: Server,
    destination: Destination,
    state_dir: Path,
    capture: LogCapture,
    wanted: Sequence[Replication],
    settings: ApplySettings,
) -> Iterator[Applied]:
    """Bring the wanted tables up to what has been captured; one Applied each, as soon as it is durable.

    `capture` is what `capture_log` returned for this database. Raises nothing of its own.
    """
    changelog = change_log(state_dir, server.source, capture.database)
    with SourceLine(server, capture.database) as line, SharedAnchor() as anchor:
        broken: Exception | None = None
        unfinished: frozenset[StreamId] = frozenset()
        try:
            if isinstance(destination, KeepsChunks):
                unfinished = frozenset(one.stream for one in destination.chunked_loads())
        except PgIngestError as fault:
            broken = fault
        run = _Apply(server, destination, changelog, capture, settings, line, anchor, unfinished)
        for replication in wanted:
            error = broken or capture.failures.get(replication.table)
            if error is not None:
                yield Applied(replication, error=error)
                continue
            try:
                yield Applied(replication, run.table(replication))
            except Exception as failure:
                log.info("failed: table=%s error=%s", replication.table, type(failure).__name__)
                if isinstance(failure, DestinationBusy | SourceUnreachable):
                    broken = failure
                yield Applied(replication, error=failure)


@dataclass(slots=True)
class _Apply:
    """One run of `apply_log`."""

    server: Server
    destination: Destination
    changelog: ChangeLog
    capture: LogCapture
    settings: ApplySettings
    line: SourceLine
    anchor: SharedAnchor
    _unfinished: frozenset[StreamId]

    def table(self, replication: Replication) -> LoadReport | None:
        """Everything that is in the log for one table; None when nothing had to be stored."""
        load = TableLoad(self.destination, self.capture, self.settings, replication, time.time())
        before = self.destination.bookmark(load.stream)
        bookmark = fresh = None
        if replication.table not in self.settings.reset:
            bookmark = self._continued(replication, before, load)
        if bookmark is not None and load.stream in self._unfinished:
            fresh = self._in_chunks(load, before, only_resume=True)
            before = bookmark = fresh or bookmark
        if bookmark is None:
            fresh = self._from_another(load, before) or self._snapshot(load, before)
            before = bookmark = fresh
            self._capture_meanwhile()
        try:
            bookmark = self._with_partitions(replication, bookmark)
            if fresh is None:
                bookmark = notice_alters(self.line, self.capture, replication, bookmark)
            bookmark, before = self._follow(load, bookmark, before)
            if fresh is None:
                follow_alters(self.line, self.capture, load, bookmark, before)
        except ReadAnew as reason:
            load.anew(reason)
            self.anchor.give_up()
            bookmark = self._snapshot(load, self.destination.bookmark(load.stream))
            self._capture_meanwhile()
            try:
                self._follow(load, bookmark, bookmark)
            except ReadAnew as again:
                load.notes.append(f"to be read anew by the next sync too: {again}")
        return load.report()

    def _with_partitions(
        self, replication: Replication, bookmark: LogBasedBookmark
    ) -> LogBasedBookmark:
        table = self.capture.tables[replication.table]
        if table.kind is not RelationKind.PARTITIONED:
            return bookmark
        return log_based.with_partitions(self.line.session, table, bookmark)

    def _follow(
        self, load: TableLoad, bookmark: LogBasedBookmark, before: Bookmark | None
    ) -> tuple[LogBasedBookmark, Bookmark | None]:
        """Apply the log from `bookmark` on; `before` is what the destination has now. Both as they are then."""
        pieces = self._pieces(load, bookmark)
        try:
            for reading in log_steps.steps(
                load.replication,
                bookmark,
                pieces,
                self.line.look,
                self._filter(load.replication),
                inserts_only=self.capture.inserts_only,
                reread=self.line.reread,
            ):
                load.store(reading, expected=before)
                assert isinstance(reading.bookmark, LogBasedBookmark)
                before = bookmark = reading.bookmark
        except NotContinued as error:
            if load.replication.where is not None:
                why = f"a row may have come inside the row filter without all its values {FULL}"
            elif self.server.config.log.plugin is Plugin.WAL2JSON:
                why = "a row that was gone when it was read again may have changed before that"
            else:
                raise
            raise ReadAnew(f"{why}: {error.detail}") from None
        except (DestinationBusy, SourceUnreachable):
            self.line.hang_up()
            raise
        return bookmark, before

    def _filter(
        self, replication: Replication
    ) -> Callable[[Piece, Sequence[Column]], Passing | None]:
        if replication.where is None or replication.table in self.capture.filtered:
            return lambda _piece, _columns: None
        return self.line.row_filter(replication.table, replication.where)

    def _continued(
        self, replication: Replication, bookmark: Bookmark | None, load: TableLoad
    ) -> LogBasedBookmark | None:
        """The bookmark, unless it is another method's or the log cannot go on from it."""
        if not isinstance(bookmark, LogBasedBookmark):
            return None
        reason = log_based.other_settings(replication, bookmark)
        if not reason:
            reason = not_of_this_history(self.changelog.manifest(), bookmark)
        since = self.capture.since[replication.table]
        if not reason:
            if is_followed(bookmark, since):
                return bookmark
            reason = (
                f"the log has followed the table since {since} only, and its snapshot was taken at"
                f" {bookmark.joined_lsn} (was it out of the publication, made anew, or is the change log"
                " a new one?)"
            )
        load.anew(reason)
        return None

    def _snapshot(self, load: TableLoad, before: Bookmark | None) -> LogBasedBookmark:
        """Replace the stored rows: a large table's in chunks, any other's in one pass."""
        return self._in_chunks(load, before) or self._join(load).at_once(before)

    def _in_chunks(
        self, load: TableLoad, before: Bookmark | None, *, only_resume: bool = False
    ) -> LogBasedBookmark | None:
        self.line.hang_up()
        chunks = LogChunks(
            server=self.server,
            destination=self.destination,
            capture=self.capture,
            load=load,
            pieces=lambda bookmark: self._pieces(load, bookmark),
            capture_again=self._capture_again,
            reread=self.line.reread,
        )
        return chunks.run(before, only_resume=only_resume)

    def _from_another(self, load: TableLoad, before: Bookmark | None) -> LogBasedBookmark | None:
        """Go on from what another method has stored; None, and it is said why, where all rows must be read."""
        anew = load.replication.table in self.settings.reset
        if anew or before is None or isinstance(before, LogBasedBookmark):
            return None
        if load.stream in self._unfinished:
            load.anew(f"the method was {method_of(before)} before, and a load in chunks was begun")
            return None
        return self._join(load).from_another(before)

    def _join(self, load: TableLoad) -> Join:
        return Join(self.server, self.capture, self.line, self.anchor, load)

    def _capture_meanwhile(self) -> None:
        """A snapshot may take long: let go of the WAL that came meanwhile.

        What fails here fails again, and is told, in the next run; this table is stored already.
        """
        try:
            self._capture_again()
        except PgIngestError as error:
            passing = isinstance(error, PassingFault)
            log.log(logging.INFO if passing else logging.ERROR, "not captured: %s", error)

    def _capture_again(self) -> Captured:
        self.line.hang_up()
        return capture_again(
            self.server,
            self.changelog.state_dir,
            self.capture.database,
            self.capture.chosen,
        )

    def _pieces(self, load: TableLoad, bookmark: LogBasedBookmark) -> Iterator[Piece]:
        after = int(Lsn.parse(bookmark.lsn)), bookmark.sequence
        for recorded in self.changelog.recorded(load.replication.table, after):
            relation = recorded.relation
            yield Piece(
                oid=relation.oid,
                id=relation.id,
                columns=self.line.columns(relation),
                identity=frozenset(column.name for column in relation.columns if column.identity),
                rows=recorded.rows,
                size=recorded.size,
            )
