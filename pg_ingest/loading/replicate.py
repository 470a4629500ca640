"""One table, one time: describe, read, stage, commit, report.

The order is what keeps both sides whole. Rows go into a stage that nobody sees. The source's snapshot and
session are closed before the commit, so that a slow destination never holds back the source's vacuum. Then rows
and bookmark become visible in one transaction of the destination. A failure anywhere leaves the destination as
it was, and since the bookmark is where it was too, the next run simply does the work again. A statement that
the server cancels is tried again at once, in smaller ones where the method allows it (`methods/pieces.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from pg_ingest.batch import Batch, Everything, LoadReport, Reading, Window
from pg_ingest.bookmark import Bookmark
from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.destination import (
    Destination,
    LoadReportDraft,
    Stage,
)
from pg_ingest.loading.load_chunks import TableRequest, load_in_chunks
from pg_ingest.methods.pieces import until_it_passes
from pg_ingest.methods.registry import reader_for
from pg_ingest.methods.request import Request
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.progress import PROGRESS_SECONDS, Progress
from pg_ingest.table import Table

log = logging.getLogger(__name__)


def replicate(
    server: Server,
    destination: Destination,
    replication: Replication,
    database: str,
    *,
    max_rejected: int,
    reset: bool = False,
    window: tuple[str, str] | None = None,
    run_id: str = "",
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> LoadReport:
    """Bring one table of one database up to date in the destination.

    Args:
        max_rejected: rows that may be set aside before the load fails.
        reset: read the whole table and replace the stored rows, whatever the bookmark says.
        window: start and end (ISO 8601) of the time window to replace, for tables with `partition_by`.
        run_id: stands in `_pgi.loads`.
        progress: called at most every PROGRESS_SECONDS while rows come; an error it raises ends the load.
        say: told before the first row is read why all rows are, where a table was stored before and its method
            could have gone on.

    The report's `extra["table"]` is the source table as it was read.

    Raises what the source, the method and the destination raise (`pg_ingest.errors`); the destination is then
    as it was before.
    """
    load = TableRequest(
        *(replication, database, max_rejected, reset, window, run_id, progress, time.time(), say)
    )
    log.info("reading table=%s method=%s", load.stream, replication.method)
    notes: list[str] = []
    chunked = load_in_chunks(server, destination, load, notes)
    if isinstance(chunked, LoadReport):
        return chunked
    report = until_it_passes(
        chunked, lambda pieces: _read_once(server, destination, load, chunked, notes, pieces)
    )
    log.info(
        "stored table=%s rows=%d bytes=%d inserted=%d updated=%d deleted=%d seconds=%.1f",
        *(load.stream, report.rows_read, report.bytes_read, report.counts.inserted),
        *(report.counts.updated, report.counts.deleted, report.duration_s),
    )
    return report


def _read_once(
    server: Server,
    destination: Destination,
    load: TableRequest,
    bookmark: Bookmark | None,
    notes: Sequence[str],
    pieces: int,
) -> LoadReport:
    with ExitStack() as staging:
        with server.session(load.database) as session:
            begun_at = _wal_position(session)
            table = describe(session, load.replication.table)
            asked = Request(
                *(session, load.replication, table, bookmark, load.reset, load.window, pieces)
            )
            stage, reading, draft = _staged(load, asked, destination, staging)
            draft.notes = tuple(dict.fromkeys((*notes, *draft.notes)))
            lag = _wal_position(session) - begun_at
        report = stage.commit(reading.scope, reading.bookmark, draft)
    return replace(report, lag_bytes=lag, extra={**report.extra, "table": table})


def _staged(
    load: TableRequest,
    asked: Request,
    destination: Destination,
    staging: ExitStack,
) -> tuple[Stage, Reading, LoadReportDraft]:
    """All rows in a stage that `staging` holds open; the source's snapshot is over when this returns."""
    table, bookmark = asked.table, asked.bookmark
    with reader_for(asked.replication.method, asked.pieces)(asked) as reading:
        if bookmark is not None and reading.phase == "snapshot":
            _say(load, reading)
        draft = LoadReportDraft(
            started_at=load.started_at,
            phase=reading.phase,
            position_from=reading.position_from,
            position_to=reading.position_to,
            run_id=load.run_id,
            method=load.replication.method,
            continues=None if isinstance(reading.scope, Everything | Window) else bookmark,
        )
        staged = destination.stage(
            load.stream,
            load.target(table),
            reading.schema,
            _counted(reading, draft, load, table),
            max_rejected=load.max_rejected,
        )
        stage = staging.enter_context(staged)
        draft.notes = tuple(reading.notes)
    return stage, reading, draft


def _say(load: TableRequest, reading: Reading) -> None:
    if load.replication.method is not Method.FULL_TABLE:
        for note in reading.notes:
            load.say(note)


def _counted(
    reading: Reading, draft: LoadReportDraft, load: TableRequest, table: Table
) -> Iterator[Batch]:
    """The same batches, counted in `draft` and shown to `progress`."""
    due = 0.0
    all_of_it = isinstance(reading.scope, Everything) and load.replication.where is None
    expected = max(0, table.estimated_rows) if all_of_it else 0
    for batch in reading.batches:
        rejected = 0 if batch.rejected is None else batch.rejected.num_rows
        draft.rows_read += batch.rows.num_rows + rejected
        draft.bytes_read += batch.size
        seconds = time.time() - load.started_at
        if load.progress is not None and seconds >= due:
            due = seconds + PROGRESS_SECONDS
            load.progress(Progress(draft.rows_read, draft.bytes_read, seconds, expected))
        yield batch


def _wal_position(session: Session) -> int:
    """How far the server has written (a standby: replayed) its log now."""
    with session.snapshot() as snapshot:
        return snapshot.lsn
