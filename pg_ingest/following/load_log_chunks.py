"""A large log-based table: its chunks, then the log up to a moment after the last one, then everybody sees it.

Why that is exact is told in `methods/log_chunks.py`. The log is captured between chunks too, so that a load
that takes days does not keep the server's WAL for days.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from pg_ingest.batch import Everything
from pg_ingest.bookmark import Bookmark, LogBasedBookmark
from pg_ingest.changelog.capture import Captured
from pg_ingest.changelog.handover import is_followed
from pg_ingest.destinations.chunks import KeepsChunks
from pg_ingest.destinations.destination import Destination, LoadReportDraft
from pg_ingest.errors import PassingFault
from pg_ingest.following.capture_log import LogCapture
from pg_ingest.following.load_log import TableLoad
from pg_ingest.loading.chunked_load import read_in_chunks
from pg_ingest.loading.open_chunks import Chunks, ChunkTask
from pg_ingest.lsn import Lsn
from pg_ingest.methods.chunks import Beginning, Plan, wait_until_flushed
from pg_ingest.methods.log_based import beginning
from pg_ingest.methods.log_chunks import catching_up, caught_up
from pg_ingest.methods.log_steps import Piece, Reread
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.postgres.log_end import after_all_seen
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table

CAPTURE_SECONDS = 60.0
"""Between two captures while chunks are read."""


@dataclass(slots=True)
class LogChunks:
    """The first load, or a new one, of one log-based table.

    Attributes:
        pieces: the changes in the change log after a bookmark.
        capture_again: reads the slot once more; opens a session of its own.
        reread: as in `log_steps.steps`.
    """

    server: Server
    destination: Destination
    capture: LogCapture
    load: TableLoad
    pieces: Callable[[LogBasedBookmark], Iterator[Piece]]
    capture_again: Callable[[], Captured]
    reread: Reread
    _captured_at: float = field(default_factory=time.monotonic)

    def run(self, before: Bookmark | None, *, only_resume: bool = False) -> LogBasedBookmark | None:
        """Replace the stored rows, and give the bookmark of the new ones; None where one pass must do it.

        Args:
            before: what the destination must still have when the new rows take their place.
            only_resume: an unfinished load goes on, but none is begun.
        """
        destination = self.destination
        if not isinstance(destination, KeepsChunks):
            return None
        chunks = read_in_chunks(self._task(destination, only_resume), self.load.notes)
        if chunks is None:
            destination.drop_chunks(self.load.stream)
            return None
        upto = self._captured()
        try:
            bookmark = self._caught_up(destination, chunks, upto)
        except ReadAnew as reason:
            destination.drop_chunks(self.load.stream)
            self.load.notes.append(f"read anew in one pass: {reason}")
            return None
        draft = _draft(self.load, chunks, bookmark)
        self.load.check(before)
        self.load.add(
            destination.publish_chunks(
                *(chunks.load, chunks.beginning.schema, Everything(), bookmark, draft)
            )
        )
        return bookmark

    def _task(self, destination: KeepsChunks, only_resume: bool) -> ChunkTask:
        load, settings = self.load, self.load.settings
        progress = settings.progress
        return ChunkTask(
            server=self.server,
            destination=destination,
            replication=load.replication,
            database=self.capture.database,
            stream=load.stream,
            target=lambda _table: load.target,
            max_rejected=settings.max_rejected,
            run_id=settings.run_id,
            started_at=load.started_at,
            beginning=self._beginning,
            refused=self._refused,
            between=self._between,
            reset=load.replication.table in settings.reset,
            only_resume=only_resume,
            progress=None if progress is None else lambda now: progress(load.replication, now),
        )

    def _beginning(self, session: Session, table: Table) -> Beginning:
        capture, replication = self.capture, self.load.replication
        whole = ""
        if replication.where is not None:
            whole = "its row filter is judged on rows of one moment"
        if capture.inserts_only:
            whole = "the publication carries only inserts"
        begin = beginning(session, replication, table, inserts_only=capture.inserts_only)
        return replace(begin, whole=whole)

    def _refused(self, plan: Plan) -> str:
        since = self.capture.since[self.load.replication.table]
        start = plan.start
        if isinstance(start, LogBasedBookmark) and is_followed(start, since):
            return ""
        return f"the log has followed the table since {since} only"

    def _between(self) -> None:
        """Let go of the WAL that came meanwhile; what fails here is met again when it matters."""
        if time.monotonic() - self._captured_at < CAPTURE_SECONDS:
            return
        try:
            self.capture_again()
        except PassingFault as fault:
            self.load.notes.append(f"not captured between two chunks: {fault.message}")
        self._captured_at = time.monotonic()

    def _captured(self) -> Lsn:
        """A position after every commit that a chunk has seen, up to which all is captured.

        The log is on the server's disk up to the last of these commits (each chunk waited for its own), and
        a capture reads all that is there.
        """
        with self.server.session(self.capture.database) as session:
            end = after_all_seen(session)
            wait_until_flushed(session, end)
        captured = self.capture_again()
        return min(end, Lsn(captured.position - 1))

    def _caught_up(self, destination: KeepsChunks, chunks: Chunks, upto: Lsn) -> LogBasedBookmark:
        bookmark = chunks.load.caught_up or chunks.plan.start
        assert isinstance(bookmark, LogBasedBookmark)
        load, replication = chunks.load, self.load.replication
        for reading in catching_up(replication, bookmark, self.pieces(bookmark), upto, self.reread):
            destination.catch_up(load, reading, max_rejected=self.load.settings.max_rejected)
            assert isinstance(reading.bookmark, LogBasedBookmark)
            bookmark = reading.bookmark
            load = replace(load, caught_up=bookmark)
        return caught_up(bookmark, upto)


def _draft(load: TableLoad, chunks: Chunks, bookmark: LogBasedBookmark) -> LoadReportDraft:
    """What the load of all chunks has to say, whichever runs read them."""
    return LoadReportDraft(
        started_at=load.started_at,
        phase="historical",
        position_from=bookmark.joined_lsn,
        position_to=bookmark.lsn,
        rows_read=chunks.load.rows + chunks.rows,
        bytes_read=chunks.load.bytes + chunks.bytes,
        notes=tuple(dict.fromkeys((*load.notes, *chunks.beginning.notes))),
        run_id=load.settings.run_id,
        method=load.replication.method,
    )
