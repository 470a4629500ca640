"""The rows of a SELECT at one moment, as Batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pg_ingest.batch import Batch
from pg_ingest.decode.copy_csv import BLOCK, read_copy_csv
from pg_ingest.errors import SourceBusy
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.postgres.storage import files_of
from pg_ingest.table import Table


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are read lazily, once, the moment at which they are true, and the files they are in."""

    snapshot: Snapshot
    batches: Iterator[Batch]
    files: Mapping[int, int | None]


_SMALLEST_BLOCK = 1 << 16

_UNKNOWN_WIDTH = 100
"""Bytes of a row of a table that was never analysed."""


def block_of(session: Session, table: Table) -> int:
    """Bytes of text in a batch of about `limits.fetch_rows` rows, within what is good for whole-column work."""
    known = table.estimated_rows > 0 and table.estimated_bytes > 0
    width = table.estimated_bytes // table.estimated_rows if known else _UNKNOWN_WIDTH
    return max(_SMALLEST_BLOCK, min(BLOCK, session.limits.fetch_rows * max(1, width)))


@contextmanager
def rows_at_once(session: Session, table: Table, query: SelectQuery) -> Iterator[Rows]:
    """The rows of `query` in a snapshot taken now; leaving the block early cancels the statement.

    A failure at the source, also one in the middle, comes out of the batches as an error: rows that simply
    end are rows that the server has said are all. SourceBusy when the table was truncated or rewritten just
    when the reading began (see `postgres/storage.py`).
    """
    files = files_of(session, table)
    with session.snapshot() as snapshot, session.copy(query) as stream:
        batches = read_copy_csv(stream, query.columns, block_of(session, table))
        yield Rows(snapshot, of_these_files(session, table, files, batches), files)


def of_these_files(
    session: Session, table: Table, files: Mapping[int, int | None], batches: Iterator[Batch]
) -> Iterator[Batch]:
    """The same batches; raise SourceBusy after the last one when the table's files are not these any more."""
    yield from batches
    if files_of(session, table) != files:
        raise SourceBusy(
            f"{table.id} was truncated or rewritten when its reading began",
            detail="a snapshot from before that sees none of its rows",
            hint="nothing was stored; it is tried again",
        )
