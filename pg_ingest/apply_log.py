"""From the change log into the destination, table by table.

Each table goes on from its own bookmark; one that has none, that is reset, or whose bookmark is older than
the position since which the log follows it, takes a snapshot first. Every step is one transaction of the
destination with rows and bookmark. A table that fails stays where it was and does not stop the others; what
concerns all of them (the destination is held by another process, the source cannot be reached) is met once.

Two processes may apply the same table at once (the slot's lock is not held here). A step is only right on
the state that its bookmark describes, so the bookmark is looked at again while the stage holds the
destination; if it has moved, the step is given up and its rows are seen again by the next run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from pg_ingest.batch import Batch, LoadCounts, LoadReport, Reading
from pg_ingest.bookmark import Bookmark, LogBasedBookmark
from pg_ingest.capture_log import LogCapture, capture_again, change_log
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.config.selection import Replication
from pg_ingest.decode.messages import Relation
from pg_ingest.destinations.destination import (
    Destination,
    LoadReportDraft,
    StreamId,
    Target,
)
from pg_ingest.errors import (
    DestinationBusy,
    PassingFault,
    PgIngestError,
    SourceUnreachable,
)
from pg_ingest.lsn import Lsn
from pg_ingest.methods import log_based
from pg_ingest.methods.log_based import Piece
from pg_ingest.methods.shape import Difference, ReadAnew, fills
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.logged_columns import logged_columns
from pg_ingest.postgres.session import Server, Session
from pg_ingest.postgres.storage import digest, files_of
from pg_ingest.postgres.writers import wait_for_writers
from pg_ingest.replicate import PROGRESS_SECONDS, Progress
from pg_ingest.table import Column, TableId

log = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
"""How long a snapshot waits for writers, only to save work: without it the log is looked at from its begin."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one table: its report, None when nothing had changed; or why it failed."""

    replication: Replication
    report: LoadReport | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class ApplySettings:
    """How tables are applied.

    Attributes:
        max_rejected: rows of a table that may be set aside in a step before the table fails.
        reset: tables that take a new snapshot, whatever their bookmark says.
        run_id: stands in `_pgi.loads`.
        progress: called with the table at most every PROGRESS_SECONDS while its rows come; an error it
            raises ends that table.
    """

    max_rejected: int
    reset: Collection[TableId] = ()
    run_id: str = ""
    progress: Callable[[Replication, Progress], None] | None = None


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
    with _Line(server, capture.database) as line:
        run = _Apply(server, destination, changelog, capture, settings, line)
        broken: Exception | None = None
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


class _Line:
    """A session that is opened when it is first needed, and again after it was hung up.

    Only one at a time: the source may allow no more (`limits.connections`).
    """

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._stack = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    @property
    def session(self) -> Session:
        if self._session is None:
            self._session = self._stack.enter_context(self._server.session(self._database))
        return self._session

    def hang_up(self) -> None:
        self._session = None
        self._stack.close()


@dataclass(slots=True)
class _Apply:
    """One run of `apply_log`."""

    server: Server
    destination: Destination
    changelog: ChangeLog
    capture: LogCapture
    settings: ApplySettings
    line: _Line
    _shapes: dict[Relation, tuple[Column, ...]] = field(default_factory=dict)

    def table(self, replication: Replication) -> LoadReport | None:
        """Everything that is in the log for one table; None when nothing had to be stored."""
        load = _Load(self, replication, time.time())
        before = self.destination.bookmark(load.stream)
        bookmark = None
        if replication.table not in self.settings.reset:
            bookmark = self._continued(replication, before, load)
        if bookmark is None:
            before = bookmark = self._snapshot(load, before)
            self._capture_meanwhile()
        try:
            self._follow(load, bookmark, before)
        except ReadAnew as reason:
            load.notes.append(f"read anew: {reason}")
            bookmark = self._snapshot(load, self.destination.bookmark(load.stream))
            self._capture_meanwhile()
            self._follow(load, bookmark, bookmark)
        return load.report()

    def _follow(self, load: _Load, bookmark: LogBasedBookmark, before: Bookmark | None) -> None:
        """Apply the log from `bookmark` on; `before` is what the destination has now."""
        pieces = self._pieces(load, bookmark)
        try:
            for reading in log_based.steps(load.replication, bookmark, pieces, self._look):
                load.store(reading, expected=before)
                before = reading.bookmark
        except (DestinationBusy, SourceUnreachable):
            self.line.hang_up()
            raise

    def _look(
        self, piece: Piece, change: Difference, bookmark: LogBasedBookmark
    ) -> pa.RecordBatch | None:
        session = self.line.session
        table = describe(session, piece.id)
        files = digest(files_of(session, table))
        return fills(session, piece.oid, change, bookmark, files)

    def _continued(
        self, replication: Replication, bookmark: Bookmark | None, load: _Load
    ) -> LogBasedBookmark | None:
        """The bookmark, unless the log cannot go on from it."""
        if bookmark is None:
            return None
        reason = log_based.other_settings(replication, bookmark)
        since = self.capture.since[replication.table]
        if not reason and isinstance(bookmark, LogBasedBookmark):
            if Lsn.parse(bookmark.joined_lsn) >= since:
                return bookmark
            reason = (
                f"the log has followed the table since {since} only, and its snapshot was taken at"
                f" {bookmark.joined_lsn} (was it out of the publication, made anew, or is the change log"
                " a new one?)"
            )
        load.notes.append(f"read anew: {reason}")
        return None

    def _snapshot(self, load: _Load, before: Bookmark | None) -> LogBasedBookmark:
        """Replace the stored rows by a snapshot; the session is over before the commit.

        Who wrote to the table when the capture was over and has ended before the snapshot is seen by it, and
        whoever committed before the captured position did write then or earlier. So if they all end soon,
        what has been captured until now need not be looked at any more.
        """
        self.line.hang_up()
        with ExitStack() as staging:
            with self.server.session(self.capture.database) as session:
                table = describe(session, load.replication.table)
                settled = not wait_for_writers(session, [table], SETTLE_SECONDS)
                with log_based.snapshot(session, load.replication, table) as reading:
                    assert isinstance(reading.bookmark, LogBasedBookmark)
                    bookmark = reading.bookmark
                    if settled:
                        seen = Lsn(self.capture.captured.position - 1)
                        bookmark = replace(bookmark, lsn=str(seen))
                    reading.bookmark = bookmark
                    commit = load.staged(reading, staging, expected=before)
            commit()
        return bookmark

    def _capture_meanwhile(self) -> None:
        """A snapshot may take long: let go of the WAL that came meanwhile.

        What fails here fails again, and is told, in the next run; this table is stored already.
        """
        try:
            capture_again(self.server, self.changelog.state_dir, self.capture.database)
        except PgIngestError as error:
            passing = isinstance(error, PassingFault)
            log.log(logging.INFO if passing else logging.ERROR, "not captured: %s", error)

    def _pieces(self, load: _Load, bookmark: LogBasedBookmark) -> Iterator[Piece]:
        after = int(Lsn.parse(bookmark.lsn)), bookmark.sequence
        for recorded in self.changelog.recorded(load.replication.table, after):
            relation = recorded.relation
            yield Piece(
                oid=relation.oid,
                id=relation.id,
                columns=self._columns(relation),
                identity=frozenset(column.name for column in relation.columns if column.identity),
                rows=recorded.rows,
                size=recorded.size,
            )

    def _columns(self, relation: Relation) -> tuple[Column, ...]:
        if relation not in self._shapes:
            self._shapes[relation] = logged_columns(self.line.session, relation)
        return self._shapes[relation]


@dataclass(slots=True)
class _Load:
    """The steps of one table, on their way to one report."""

    run: _Apply
    replication: Replication
    started_at: float
    notes: list[str] = field(default_factory=list)
    _reports: list[LoadReport] = field(default_factory=list)
    _due: float = 0.0
    _rows: int = 0
    _bytes: int = 0

    @property
    def stream(self) -> StreamId:
        table = self.replication.table
        source, database = self.replication.source, self.run.capture.database
        return StreamId(source, database, table.schema, table.name)

    @property
    def target(self) -> Target:
        schema, name = self.replication.target_for(self.run.capture.database)
        comment = self.run.capture.tables[self.replication.table].comment
        return Target(schema, name, self.replication.shared, comment)

    def store(self, reading: Reading, expected: Bookmark | None) -> None:
        """One step: one transaction of the destination."""
        with ExitStack() as staging:
            self.staged(reading, staging, expected=expected)()

    def staged(
        self, reading: Reading, staging: ExitStack, expected: Bookmark | None
    ) -> Callable[[], None]:
        """Read all rows into a stage that `staging` holds open; call the result to commit it."""
        draft = LoadReportDraft(
            started_at=time.time(),
            phase=reading.phase,
            position_from=reading.position_from,
            position_to=reading.position_to,
            run_id=self.run.settings.run_id,
            method=self.replication.method,
        )
        stage = staging.enter_context(
            self.run.destination.stage(
                self.stream,
                self.target,
                reading.schema,
                self._counted(reading.batches, draft),
                max_rejected=self.run.settings.max_rejected,
            )
        )
        draft.notes = tuple(dict.fromkeys((*self.notes, *reading.notes)))

        def commit() -> None:
            self._check(expected)
            self._reports.append(stage.commit(reading.scope, reading.bookmark, draft))

        return commit

    def _check(self, expected: Bookmark | None) -> None:
        if self.run.destination.bookmark(self.stream) != expected:
            raise DestinationBusy(
                f"{self.stream} was loaded by another process at the same time",
                detail="its bookmark has moved since this load began; nothing was stored",
                hint="it is tried again from there",
            )

    def _counted(self, batches: Iterator[Batch], draft: LoadReportDraft) -> Iterator[Batch]:
        progress = self.run.settings.progress
        for batch in batches:
            rows = batch.rows.num_rows + (batch.rejected.num_rows if batch.rejected else 0)
            draft.rows_read += rows
            draft.bytes_read += batch.size
            self._rows += rows
            self._bytes += batch.size
            seconds = time.time() - self.started_at
            if progress is not None and seconds >= self._due:
                self._due = seconds + PROGRESS_SECONDS
                progress(self.replication, Progress(self._rows, self._bytes, seconds))
            yield batch

    def report(self) -> LoadReport | None:
        """All steps as one load."""
        if not self._reports:
            return None
        first, last = self._reports[0], self._reports[-1]
        notes = [note for report in self._reports for note in report.notes]
        return replace(
            last,
            counts=_total([report.counts for report in self._reports]),
            rows_read=sum(report.rows_read for report in self._reports),
            bytes_read=sum(report.bytes_read for report in self._reports),
            duration_s=time.time() - self.started_at,
            phase=first.phase,
            position_from=first.position_from,
            notes=tuple(dict.fromkeys((*notes, *self.run.capture.notes))),
            extra={**last.extra, "table": self.run.capture.tables[self.replication.table]},
        )


def _total(counts: Sequence[LoadCounts]) -> LoadCounts:
    return LoadCounts(
        inserted=sum(one.inserted for one in counts),
        updated=sum(one.updated for one in counts),
        deleted=sum(one.deleted for one in counts),
        rejected=sum(one.rejected for one in counts),
        total=counts[-1].total,
    )
