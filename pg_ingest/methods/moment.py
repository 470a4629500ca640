"""Several statements about one table, one after the other, all at the same moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from pg_ingest.batch import Batch
from pg_ingest.decode.copy_csv import read_copy_csv
from pg_ingest.methods.all_rows import all_rows_now
from pg_ingest.methods.rows import block_of, of_these_files
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.postgres.storage import files_of
from pg_ingest.table import Column, Table


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot, and the table's files from just before it."""

    session: Session
    table: Table
    snapshot: Snapshot
    files: Mapping[int, int | None]
    _open: ExitStack = field(repr=False)

    def rows(self, query: SelectQuery) -> Iterator[Batch]:
        """The rows of a SELECT, read lazily; the next statement waits until the last one has come."""
        stream = self._open.enter_context(self.session.copy(query))
        yield from read_copy_csv(stream, query.columns, block_of(self.session, self.table))
        self._open.close()

    def all_rows(self, columns: Sequence[Column], where: str | None) -> Iterator[Batch]:
        """All rows that pass the row filter, read by several connections where there are many."""
        yield from self._open.enter_context(
            closing(all_rows_now(self.session, self.table, columns, where))
        )
        self._open.close()

    def checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; SourceBusy after the last one if the table was truncated or rewritten meanwhile."""
        return of_these_files(self.session, self.table, self.files, batches)


@contextmanager
def at_one_moment(session: Session, table: Table) -> Iterator[Moment]:
    """A snapshot taken now; leaving the block early cancels the statement that runs."""
    files = files_of(session, table)
    with session.snapshot() as snapshot, ExitStack() as reads:
        yield Moment(session, table, snapshot, files, reads)
