"""A large table of a method without a log: its chunks, then one incremental read, then everybody sees it.

Why that is right is told in `methods/chunks.py`. The incremental read goes on from the position that was taken
before the first chunk, like any later sync; only that its rows go to the chunks instead of the stored table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pg_ingest.batch import Everything, LoadReport, Reading
from pg_ingest.bookmark import Bookmark, goes_on, method_of
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.chunks import KeepsChunks
from pg_ingest.destinations.destination import (
    Destination,
    LoadReportDraft,
    StreamId,
    Target,
)
from pg_ingest.errors import DestinationBusy
from pg_ingest.loading.chunked_load import read_in_chunks
from pg_ingest.loading.open_chunks import Chunks, ChunkTask
from pg_ingest.methods.pieces import until_it_passes
from pg_ingest.methods.registry import beginning_of, catch_up_of
from pg_ingest.methods.request import Request
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.server import Server
from pg_ingest.progress import Progress
from pg_ingest.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What is asked for; see `replicate`."""

    replication: Replication
    database: str
    max_rejected: int
    reset: bool
    window: tuple[str, str] | None
    run_id: str
    progress: Callable[[Progress], None] | None
    started_at: float
    say: Callable[[str], None]

    @property
    def stream(self) -> StreamId:
        table = self.replication.table
        return StreamId(self.replication.source, self.database, table.schema, table.name)

    def target(self, table: Table) -> Target:
        """Where the rows go."""
        schema, name = self.replication.target_for(self.database)
        left_out = self.replication.left_out([column.name for column in table.columns])
        return Target(schema, name, self.replication.shared, table.comment, left_out)


def load_in_chunks(
    server: Server, destination: Destination, asked: TableRequest, notes: list[str]
) -> LoadReport | Bookmark | None:
    """Load all rows, or finish a load that was begun; the bookmark where there is nothing to do in chunks.

    `notes` takes why a large table has none. Raises as `replicate` does; chunks that are stored by then are
    not read again by the next run.
    """
    beginning = beginning_of(asked.replication.method)
    if not isinstance(destination, KeepsChunks) or beginning is None or asked.window is not None:
        return destination.bookmark(asked.stream)
    before, unfinished = destination.standing(asked.stream)
    switched = _switched(asked, before)
    task = ChunkTask(
        server=server,
        destination=destination,
        replication=asked.replication,
        database=asked.database,
        stream=asked.stream,
        target=asked.target,
        max_rejected=asked.max_rejected,
        run_id=asked.run_id,
        started_at=asked.started_at,
        beginning=lambda session, table: beginning(session, asked.replication, table),
        reset=asked.reset,
        only_resume=not (asked.reset or _is_first(asked.replication, before)),
        progress=asked.progress,
        begun=lambda: asked.say(switched) if switched else None,
    )
    if task.only_resume and unfinished is None:
        return before
    said = [switched] if switched else []
    chunks = read_in_chunks(task, said)
    report = None if chunks is None else _finished(server, destination, asked, chunks, before, said)
    if report is None:
        notes.extend(
            said[1:] if switched else said
        )  # who reads it in one pass says the first by itself
        return before
    return report


def _is_first(replication: Replication, bookmark: Bookmark | None) -> bool:
    return bookmark is None or not goes_on(bookmark, replication.method)


def _switched(asked: TableRequest, bookmark: Bookmark | None) -> str:
    """What is said of a table that another method has stored; empty for any other."""
    if asked.reset or bookmark is None or goes_on(bookmark, asked.replication.method):
        return ""
    return f"all rows are read once, in chunks: it was loaded by {method_of(bookmark)} before"


def _finished(
    server: Server,
    destination: KeepsChunks,
    asked: TableRequest,
    chunks: Chunks,
    before: Bookmark | None,
    notes: list[str],
) -> LoadReport | None:
    """Bring the chunks up to date and make them visible; None where only one pass can go on."""
    caught = until_it_passes(
        chunks.load.caught_up or chunks.plan.start,
        lambda pieces: _caught_up(server, destination, asked, chunks, pieces),
    )
    reading = caught.reading
    if isinstance(reading.scope, Everything):
        destination.drop_chunks(asked.stream)
        notes.append("the chunks were thrown away, and all rows read in one snapshot")
        log.info("chunks thrown away: table=%s %s", asked.stream, "; ".join(reading.notes))
        return None
    with server.session(asked.database) as session, session.snapshot() as now:
        lag = now.lsn - caught.begun_at
    if destination.bookmark(asked.stream) != before:
        raise DestinationBusy(
            f"{asked.stream} was loaded by another process at the same time",
            detail="its bookmark has moved since this load began",
            hint="it is tried again from there",
        )
    report = _published(destination, asked, chunks, reading, notes)
    return replace(report, lag_bytes=lag, extra={**report.extra, "table": caught.table})


def _published(
    destination: KeepsChunks,
    asked: TableRequest,
    chunks: Chunks,
    reading: Reading,
    notes: list[str],
) -> LoadReport:
    """Everybody sees the chunks, which `reading` has brought up to date."""
    assert reading.bookmark is not None
    begin = chunks.beginning
    draft = LoadReportDraft(
        started_at=asked.started_at,
        phase="historical",
        position_from=reading.position_from,
        position_to=reading.position_to,
        rows_read=chunks.load.rows + chunks.rows,
        bytes_read=chunks.load.bytes + chunks.bytes,
        notes=tuple(dict.fromkeys((*notes, *begin.notes, *reading.notes))),
        run_id=asked.run_id,
        method=asked.replication.method,
    )
    report = destination.publish_chunks(
        chunks.load, begin.schema, begin.scope, reading.bookmark, draft
    )
    log.info(
        "stored in chunks: table=%s rows=%d seconds=%.1f",
        *(asked.stream, report.counts.total, time.time() - asked.started_at),
    )
    return report


@dataclass(frozen=True, slots=True)
class _CaughtUp:
    """What brought the chunks up to date, unless its scope is Everything, and where the log was before."""

    reading: Reading
    table: Table
    begun_at: int


def _caught_up(
    server: Server,
    destination: KeepsChunks,
    asked: TableRequest,
    chunks: Chunks,
    pieces: int,
) -> _CaughtUp:
    # as it is now: an attempt that failed afterwards, or another process, may have brought it on
    load = destination.chunked_load(asked.stream) or chunks.load
    since, noted = load.caught_up, list[str]()
    if since is None:
        since, noted = chunks.plan.start, destination.chunk_notes(load)
    read = catch_up_of(asked.replication.method, pieces)
    with server.session(asked.database) as session:
        with session.snapshot() as now:
            begun_at = now.lsn
        table = describe(session, asked.replication.table)
        request = Request(session, asked.replication, table, since, pieces=pieces)
        with read(request, noted) as reading:
            if not isinstance(reading.scope, Everything):
                destination.catch_up(load, reading, max_rejected=asked.max_rejected)
    return _CaughtUp(reading, table, begun_at)
