"""Which module reads by which method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pg_ingest.batch import Reading
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
from pg_ingest.methods.request import Request
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table

Reader = Callable[[Request], AbstractContextManager[Reading]]
"""Finds out what must be stored now: a Reading, valid while the block lasts."""

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


CatchUp = Callable[[Request, Sequence[str]], AbstractContextManager[Reading]]
"""Finds out what must be stored beside or instead of what the chunks of a first load brought.

The request's bookmark is the position from before the first chunk, or of an earlier catching up; the texts are
what `Beginning.look` noted of the chunks since then. Its scope is Everything where the chunks are of no use.
"""


def catch_up_of(method: Method, pieces: int = 1) -> CatchUp:
    """How chunks are brought to one moment: by the method's ordinary sync, but for those that compare.

    Raises NotInPieces as `reader_for` does.
    """
    if method is Method.SNAPSHOT_DIFF:
        return diff_chunks.catching_up if pieces == 1 else diff_pieces.catching_up
    read = reader_for(method, pieces)
    return lambda request, _notes: read(request)


_IN_PIECES: dict[Method, Reader] = {
    Method.KEY_BASED: key_based.read_in_pieces,
    Method.XMIN: changed_pieces.xmin,
    Method.DELTA_SNAPSHOT: changed_pieces.delta_snapshot,
    Method.SNAPSHOT_DIFF: diff_pieces.read_in_pieces,
}


def reader_for(method: Method, pieces: int = 1) -> Reader:
    """The reader of a method, for requests of one statement or of several pieces.

    Raises MethodUnavailable where one table alone cannot be read by it, NotInPieces where it needs one moment.
    """
    if pieces > 1:
        if method not in _IN_PIECES:
            raise NotInPieces(
                f"{method} reads all rows at one moment, which other methods need not"
            )
        return _IN_PIECES[method]
    try:
        return _READERS[method]
    except KeyError:
        raise MethodUnavailable(
            f"method {method} does not read single tables",
            hint=f"use one of {', '.join(sorted(_READERS))}",
        ) from None
