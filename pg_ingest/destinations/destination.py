"""What a destination must be able to do, whichever store it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pg_ingest.batch import Batch, LoadReport, Scope
from pg_ingest.bookmark import Bookmark
from pg_ingest.errors import DestinationFailed


class NotContinued(DestinationFailed):
    """The stored table is not the one that the staged changes continue; nothing was stored."""


@dataclass(frozen=True, slots=True, order=True)
class StreamId:
    """Whose rows: one table of one database of one source; the key of `_pgi.bookmarks`."""

    source: str
    database: str
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.source}/{self.database}/{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stream's rows go.

    Attributes:
        schema, table: names in the destination.
        shared: several databases write to this table, so it has a `_pgi_database` column and every
            scope is confined to the stream's database.
        comment: the source table's comment.
        left_out: columns that the configuration does not let in: those that are stored go with the next load.
    """

    schema: str
    table: str
    shared: bool = False
    comment: str | None = None
    left_out: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One row of `pg-ingest status`: a stream's bookmark and its newest load, times ISO 8601 UTC."""

    stream: StreamId
    target: Target
    bookmark: Bookmark
    rows: int
    updated_at: str
    last_load: dict[str, Any]


class Stage(Protocol):
    """Rows that have arrived but are not visible yet. Closing it without a commit leaves no trace."""

    rows: int
    """Rows staged so far, rejected ones not counted."""

    def commit(
        self, scope: Scope, bookmark: Bookmark | None, report: LoadReportDraft
    ) -> LoadReport:
        """Make the rows visible and store bookmark, report and rejected rows, in ONE transaction.

        Raises KeyNotUnique when the scope's key is not unique among the staged rows, DestinationFailed when
        the destination cannot store, DestinationBusy when another load has moved the bookmark that the
        rows go on from (`report.continues`); either way everything stays as it was.
        """
        ...


@dataclass(slots=True)
class LoadReportDraft:
    """What the reader knows about a load before the destination has committed it."""

    started_at: float
    """`time.time()` when the first statement went to the source."""
    phase: str
    position_from: str
    position_to: str
    rows_read: int = 0
    bytes_read: int = 0
    notes: tuple[str, ...] = ()
    run_id: str = ""
    method: str = ""
    continues: Bookmark | None = None
    """The stored bookmark must still be this one, since the rows go on from it; None: they do not."""


class Destination(Protocol):
    """A store that keeps tables, and beside them `_pgi.bookmarks`, `.loads`, `.rejected`.

    Nothing is held open between calls. Every call may raise DestinationBusy (somebody else holds
    it, after retries) and DestinationFailed.
    """

    kind: str
    """`duckdb`, `delta` or `postgres`; also the Dagster kind of the assets."""

    def bookmark(self, stream: StreamId) -> Bookmark | None:
        """The stream's bookmark, None before its first load."""
        ...

    def stage(
        self,
        stream: StreamId,
        target: Target,
        schema: pa.Schema,
        batches: Iterator[Batch],
        *,
        max_rejected: int,
    ) -> AbstractContextManager[Stage]:
        """Read all `batches` into a stage; memory stays bounded.

        An error raised by `batches` comes out unchanged, and nothing is left behind. More than
        `max_rejected` rejected rows raise TooManyRejected.
        """
        ...

    def status(self) -> list[TableStatus]:
        """Every stream this destination has a bookmark for, in order."""
        ...
