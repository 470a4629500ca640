"""The steps of one log-based table on their way into the destination, and the report they make together."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from pg_ingest.batch import Batch, Everything, LoadCounts, LoadReport, Reading
from pg_ingest.bookmark import Bookmark
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.destination import (
    Destination,
    LoadReportDraft,
    StreamId,
    Target,
)
from pg_ingest.errors import DestinationBusy
from pg_ingest.following.capture_log import LogCapture
from pg_ingest.progress import PROGRESS_SECONDS, Progress
from pg_ingest.table import TableId


@dataclass(frozen=True, slots=True)
class ApplySettings:
    """How tables are applied.

    Attributes:
        max_rejected: rows of a table that may be set aside in a step before the table fails.
        reset: tables that take a new snapshot, whatever their bookmark says.
        run_id: stands in `_pgi.loads`.
        progress: called with the table at most every PROGRESS_SECONDS while its rows come; an error it
            raises ends that table.
        say: called with the table before it is read anew, with the reason.
    """

    max_rejected: int
    reset: Collection[TableId] = ()
    run_id: str = ""
    progress: Callable[[Replication, Progress], None] | None = None
    say: Callable[[Replication, str], None] = lambda _replication, _text: None


@dataclass(slots=True)
class TableLoad:
    """The steps of one table, on their way to one report."""

    destination: Destination
    capture: LogCapture
    settings: ApplySettings
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
        source, database = self.replication.source, self.capture.database
        return StreamId(source, database, table.schema, table.name)

    @property
    def target(self) -> Target:
        schema, name = self.replication.target_for(self.capture.database)
        table = self.capture.tables[self.replication.table]
        left_out = self.replication.left_out([column.name for column in table.columns])
        return Target(schema, name, self.replication.shared, table.comment, left_out)

    def anew(self, reason: object) -> None:
        """Say, before it begins, that the whole table is read once more."""
        note = f"read anew: {reason}"
        self.notes.append(note)
        self.settings.say(self.replication, note)

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
            run_id=self.settings.run_id,
            method=self.replication.method,
        )
        stage = staging.enter_context(
            self.destination.stage(
                self.stream,
                self.target,
                reading.schema,
                self._counted(reading, draft),
                max_rejected=self.settings.max_rejected,
            )
        )
        draft.notes = tuple(dict.fromkeys((*self.notes, *reading.notes)))

        def commit() -> None:
            self.check(expected)
            self._reports.append(stage.commit(reading.scope, reading.bookmark, draft))

        return commit

    def add(self, report: LoadReport) -> None:
        """A step that somebody else has committed."""
        self._reports.append(report)

    def check(self, expected: Bookmark | None) -> None:
        """Raise DestinationBusy when the stored bookmark is not this one any more."""
        if self.destination.bookmark(self.stream) != expected:
            raise DestinationBusy(
                f"{self.stream} was loaded by another process at the same time",
                detail="its bookmark has moved since this load began; nothing was stored",
                hint="it is tried again from there",
            )

    def _counted(self, reading: Reading, draft: LoadReportDraft) -> Iterator[Batch]:
        progress = self.settings.progress
        all_of_it = isinstance(reading.scope, Everything) and self.replication.where is None
        table = self.capture.tables[self.replication.table]
        expected = max(0, table.estimated_rows) if all_of_it else 0
        for batch in reading.batches:
            rows = batch.rows.num_rows + (batch.rejected.num_rows if batch.rejected else 0)
            draft.rows_read += rows
            draft.bytes_read += batch.size
            self._rows += rows
            self._bytes += batch.size
            seconds = time.time() - self.started_at
            if progress is not None and seconds >= self._due:
                self._due = seconds + PROGRESS_SECONDS
                progress(self.replication, Progress(self._rows, self._bytes, seconds, expected))
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
            notes=tuple(dict.fromkeys((*notes, *self.notes, *self.capture.notes))),
            extra={**last.extra, "table": self.capture.tables[self.replication.table]},
        )


def _total(counts: Sequence[LoadCounts]) -> LoadCounts:
    return LoadCounts(
        inserted=sum(one.inserted for one in counts),
        updated=sum(one.updated for one in counts),
        deleted=sum(one.deleted for one in counts),
        rejected=sum(one.rejected for one in counts),
        total=counts[-1].total,
    )
