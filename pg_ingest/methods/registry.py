"""Which module reads by which method."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from pg_ingest.batch import Reading
from pg_ingest.bookmark import Bookmark
from pg_ingest.config.model import Method
from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods import delta_snapshot, full_table, key_based, snapshot_diff, xmin
from pg_ingest.methods.chunks import Beginning
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table


class Reader(Protocol):
    """Finds out what must be stored now."""

    def __call__(
        self,
        session: Session,
        replication: Replication,
        table: Table,
        bookmark: Bookmark | None,
        *,
        reset: bool,
        window: tuple[str, str] | None,
    ) -> AbstractContextManager[Reading]:
        """A Reading, valid while the block lasts.

        Args:
            table: as it is now.
            bookmark: the destination's, None before the first load.
            reset: forget the bookmark and read everything.
            window: start and end of one time window (ISO 8601), for tables with `partition_by`.
        """
        ...


_READERS: dict[Method, Reader] = {
    Method.FULL_TABLE: full_table.read,
    Method.KEY_BASED: key_based.read,
    Method.XMIN: xmin.read,
    Method.SNAPSHOT_DIFF: snapshot_diff.read,
    Method.DELTA_SNAPSHOT: delta_snapshot.read,
}


class Begin(Protocol):
    """Finds out what a first load reads; see `chunks.Beginning`."""

    def __call__(self, session: Session, replication: Replication, table: Table) -> Beginning:
        """Raises as the method's reader does."""
        ...


_BEGINNINGS: dict[Method, Begin] = {
    Method.KEY_BASED: key_based.beginning,
    Method.XMIN: xmin.beginning,
    Method.DELTA_SNAPSHOT: delta_snapshot.beginning,
}


def beginning_of(method: Method) -> Begin | None:
    """How the method begins a load in chunks, None where it needs one moment for all rows."""
    return _BEGINNINGS.get(method)


def reader_for(method: Method) -> Reader:
    """The reader of a method; raise MethodUnavailable where one table alone cannot be read by it."""
    try:
        return _READERS[method]
    except KeyError:
        raise MethodUnavailable(
            f"method {method} does not read single tables",
            hint=f"use one of {', '.join(sorted(_READERS))}",
        ) from None
