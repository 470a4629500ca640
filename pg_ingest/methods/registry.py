"""Which module reads by which method."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from pg_ingest.batch import Reading
from pg_ingest.bookmark import Bookmark
from pg_ingest.config.model import Method
from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods import (
    changed_pieces,
    delta_snapshot,
    diff_chunks,
    diff_pieces,
    full_table,
    key_based,
    snapshot_diff,
    xmin,
)
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.pieces import NotInPieces
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
    Method.SNAPSHOT_DIFF: diff_chunks.beginning,
}


def beginning_of(method: Method) -> Begin | None:
    """How the method begins a load in chunks, None where it needs one moment for all rows."""
    return _BEGINNINGS.get(method)


class CatchUp(Protocol):
    """Finds out what must be stored beside or instead of what the chunks of a first load brought."""

    def __call__(
        self,
        session: Session,
        replication: Replication,
        table: Table,
        since: Bookmark,
        notes: Sequence[str],
    ) -> AbstractContextManager[Reading]:
        """A Reading, valid while the block lasts; its scope is Everything where the chunks are of no use.

        Args:
            since: the position from before the first chunk, or of an earlier catching up.
            notes: what `Beginning.look` noted of the chunks since then.
        """
        ...


def catch_up_of(method: Method, pieces: int = 1) -> CatchUp:
    """How chunks are brought to one moment: by the method's ordinary sync, but for those that compare.

    Raises NotInPieces as `reader_for` does.
    """
    if method is Method.SNAPSHOT_DIFF:
        in_pieces = partial(diff_pieces.catching_up, count=pieces)
        return diff_chunks.catching_up if pieces == 1 else in_pieces
    read = reader_for(method, pieces)

    def catching_up(
        session: Session,
        replication: Replication,
        table: Table,
        since: Bookmark,
        notes: Sequence[str],  # theirs have none
    ) -> AbstractContextManager[Reading]:
        return read(session, replication, table, since, reset=False, window=None)

    return catching_up


class PieceReader(Protocol):
    """As Reader, in about `count` statements with a snapshot each; see `pieces.py`."""

    def __call__(
        self,
        session: Session,
        replication: Replication,
        table: Table,
        bookmark: Bookmark | None,
        *,
        reset: bool,
        window: tuple[str, str] | None,
        count: int,
    ) -> AbstractContextManager[Reading]:
        """Raises NotInPieces where the table cannot be cut."""
        ...


_IN_PIECES: dict[Method, PieceReader] = {
    Method.KEY_BASED: key_based.read_in_pieces,
    Method.XMIN: changed_pieces.xmin,
    Method.DELTA_SNAPSHOT: changed_pieces.delta_snapshot,
    Method.SNAPSHOT_DIFF: diff_pieces.read_in_pieces,
}


def reader_for(method: Method, pieces: int = 1) -> Reader:
    """The reader of a method, in one statement or in pieces.

    Raises MethodUnavailable where one table alone cannot be read by it, NotInPieces where it needs one moment.
    """
    if pieces > 1:
        if method not in _IN_PIECES:
            raise NotInPieces(f"{method} reads all rows at one moment")
        return partial(_IN_PIECES[method], count=pieces)
    try:
        return _READERS[method]
    except KeyError:
        raise MethodUnavailable(
            f"method {method} does not read single tables",
            hint=f"use one of {', '.join(sorted(_READERS))}",
        ) from None
