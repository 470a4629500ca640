"""Reading in pieces, when the server does not let one statement run long enough.

A standby cancels what is in the way of its replay, any server a statement that takes too long. Then the same
rows are read in smaller statements, each in a snapshot of its own, which ends with it. When is that right?

**What pieces are.** Ranges of the key, as the chunks of a first load are (`chunks.py`): whatever becomes of a
row, its key lies in one range, and each range is looked at in one snapshot. So each key is looked at once: no
key comes twice, and none is left out for having moved to another page.

**The position is taken before the first piece**, in a snapshot `S_0` that is over then. What the method
argues of its one snapshot holds here of each key, with the snapshot `S` of the piece that the key lies in:
`S` came later than `S_0`, so it sees whatever `S_0` saw, or what has taken its place. A row that is written
after its piece was read is written after `S_0`: the next sync finds it, because it goes on from the position
of `S_0`.

- *key_based*: the list of running transactions is made before `S_0`. So "no later row has a key below the
  position" holds of every `S`.
- *xmin*: a row version that `S` does not see has an id that is not below the least one running at `S_0`.
- *delta_snapshot*: that, and each key that no row of its piece has is deleted as of `S`. How many rows there
  were at one moment is not known; so the next sync compares all keys.
- *snapshot_diff*: the pieces are runs of its own ranges; checksum and rows of a range are of one snapshot,
  and what the bookmark says is what is stored, range by range.
- *full_table* promises one moment. It is tried again whole.

**What is not as of one moment.** Rows of one transaction that are written while the pieces are read may
arrive by two syncs. A row whose *key* changes meanwhile leaves one piece and comes to another: it may be seen
twice, under both keys, or not at all, until the next sync (the old key for good where the method does not see
deletes). Load notes say when a table was read in pieces.

**Later than `S_0`** is checked: a piece whose snapshot does not know all that had ended at `S_0` is not used.
For a standby cannot cancel a transaction that is between two statements, and ends the connection instead; the
next one may lead to another standby. A connection that breaks for any other reason ends the sync. The files
of the table must be the same all the time: TRUNCATE and rewriting changes do not keep rows for older
snapshots.

**How small.** The first time in 16 pieces. One that is cancelled is cut in 4, up to four times; its rows wait
in a spool until all of them have come, so that the stage never has a part of a piece, and no other piece is
read again. How many pieces it took is remembered with the position: the next sync begins with as many, after
one without a cancelled statement with half of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from pg_ingest.batch import Batch, Reading
from pg_ingest.bookmark import (
    Bookmark,
    KeyBasedBookmark,
    SnapshotDiffBookmark,
    XminBookmark,
)
from pg_ingest.errors import PassingFault, SourceBusy, StatementCancelled
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.request import Request
from pg_ingest.methods.rows import of_these_files
from pg_ingest.methods.spool import Spool
from pg_ingest.postgres.ranges import KeyRange, cut, leading_columns
from pg_ingest.postgres.select import Condition
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.table import Column, RelationKind, Table

log = logging.getLogger(__name__)

FIRST = 16
"""Pieces that a statement is cut into when it was cancelled. Of fewer each would be a large part of the table,
and the planner would read all of it for each."""

FINER = 4
_DEEPEST = 4
"""Into how many parts a cancelled piece is cut, and how often at most: 1/4096 of the rows is the smallest."""

MOST = 1024
"""Pieces that a sync begins with at most."""

ATTEMPTS = 3
"""Readings begun in one run: a connection that the server ends takes the pieces that were read with it."""

T = TypeVar("T")
B = TypeVar("B")
"""A part of a table, as a method cuts it."""


class NotInPieces(Exception):
    """This table cannot be read in pieces; the message says why."""


def until_it_passes(before: Bookmark | None, work: Callable[[int], T]) -> T:
    """Call `work` with a number of pieces, 1 for one statement, and with larger ones when it is cancelled.

    Raises StatementCancelled when smaller statements did not help or are not possible; the error says which.
    """
    count = remembered(before)
    fault: StatementCancelled | None = None
    for _ in range(ATTEMPTS):
        try:
            return work(count)
        except NotInPieces as reason:
            if fault is not None:
                raise _explained(fault, str(reason)) from None
            count = 1
        except StatementCancelled as error:
            fault = error
            count = min(MOST, max(FIRST, FINER * count))
            log.warning("a statement was cancelled: %s", error.message)
    assert fault is not None
    raise _explained(fault, "smaller ones were cancelled too")


def _explained(fault: StatementCancelled, reason: str) -> StatementCancelled:
    detail = f"{fault.detail}; smaller statements: {reason}"
    return StatementCancelled(fault.message, detail=detail, hint=fault.hint)


def remembered(bookmark: Bookmark | None) -> int:
    """The number of pieces to begin with, 1 for one statement."""
    if isinstance(bookmark, KeyBasedBookmark | XminBookmark | SnapshotDiffBookmark):
        return min(MOST, max(1, bookmark.pieces))
    return 1


def columns_to_cut_by(session: Session, table: Table, key: Sequence[str]) -> tuple[Column, ...]:
    """Columns of the key that every row has, the first of which an index begins with; raises NotInPieces."""
    if table.kind not in (RelationKind.TABLE, RelationKind.PARTITIONED):
        raise NotInPieces(f"no index says which rows of a {table.kind} are in a piece")
    filled = [column for column in map(table.column, key) if not column.nullable]
    leading = leading_columns(session, table)
    first = next((column for column in filled if column.name in leading), None)
    if first is None:
        raise NotInPieces(f"no index begins with a NOT NULL column of its key ({', '.join(key)})")
    return (first, *(column for column in filled if column is not first))


class Cut(Protocol[B]):
    """Cuts a part of the table into about `count` parts, in order; one where it cannot be cut."""

    def __call__(self, whole: B, count: int, *, share: float) -> Sequence[B]:
        """`share`: about the part of the table that each will be."""
        ...


def by_key(
    session: Session, table: Table, split: tuple[Column, ...], among: Sequence[Condition] = ()
) -> tuple[Cut[KeyRange], KeyRange]:
    """Ranges of the key, with about as many of the rows that meet all of `among`, and the one that holds all.

    `split`: see `columns_to_cut_by`.
    """

    def cut_ranges(whole: KeyRange, count: int, *, share: float) -> Sequence[KeyRange]:
        return cut(session, table, whole, count, share=share, among=among)

    return cut_ranges, KeyRange(split, None, None)


@dataclass(frozen=True, slots=True)
class _Piece(Generic[B]):
    part: B
    depth: int = 0


@dataclass(slots=True)
class Pieces(Generic[B]):
    """The pieces of one reading.

    Attributes:
        first: `S_0`.
        read, cancelled: pieces that were read, and that were cancelled.
    """

    request: Request
    first: Moment
    cutting: tuple[Cut[B], B]
    read: int = 0
    cancelled: int = 0

    def all_of(
        self, reading: Reading, rows: Callable[[Moment, B], Iterator[Batch]]
    ) -> Iterator[Batch]:
        """As `read_all`; after the last batch the reading says how it was read."""
        yield from self.read_all(rows)
        self.tell(reading)

    def read_all(self, rows: Callable[[Moment, B], Iterator[Batch]]) -> Iterator[Batch]:
        """The batches of all parts, piece by piece; `rows` reads those of one part.

        Raises StatementCancelled when the smallest piece
        was cancelled, SourceBusy where a snapshot is not later than the first, or the files are others.
        """
        _, whole = self.cutting
        left = self._cut(_Piece(whole), self.request.pieces)[::-1]
        while left:
            piece = left.pop()
            with Spool() as spool:
                try:
                    spool.take(self._one(piece.part, rows))
                except PassingFault as error:
                    fault = self.request.session.reason_of(error)
                    if not isinstance(fault, StatementCancelled):
                        raise
                    left += self._smaller(piece, fault)[::-1]
                    continue
                self.read += 1
                yield from spool.batches()

    def tell(self, reading: Reading) -> None:
        """Say and remember how it was read."""
        cancelled = self.cancelled + (self.request.pieces > remembered(self.request.bookmark))
        how = f"read in {self.read} pieces of the key, each in a snapshot of its own"
        if cancelled:
            reading.notes.append(f"{how}: the server cancelled larger ones, {cancelled} in all")
        elif self.read > 1:
            reading.notes.append(f"{how}: the server cancelled larger ones before")
        count = self.read if cancelled else self.read // 2
        mark = reading.bookmark
        assert isinstance(mark, KeyBasedBookmark | XminBookmark | SnapshotDiffBookmark)
        reading.bookmark = replace(mark, pieces=max(1, count))

    def _one(self, part: B, rows: Callable[[Moment, B], Iterator[Batch]]) -> Iterator[Batch]:
        session, table = self.request.session, self.request.table
        with at_one_moment(session, table) as moment:
            refuse_earlier(table, self.first.snapshot, moment.snapshot)
            yield from of_these_files(session, table, self.first.files, rows(moment, part))

    def _smaller(self, piece: _Piece[B], fault: StatementCancelled) -> list[_Piece[B]]:
        self.cancelled += 1
        self.request.session.renew()
        if piece.depth >= _DEEPEST:
            raise fault
        log.warning(
            "reading a piece was cancelled, trying smaller ones: table=%s %s",
            *(self.request.table.id, fault.message),
        )
        return self._cut(piece, FINER)

    def _cut(self, piece: _Piece[B], count: int) -> list[_Piece[B]]:
        cut_parts, _ = self.cutting
        fineness = self.request.pieces * FINER**piece.depth
        parts = cut_parts(piece.part, count, share=1 / max(1, fineness))
        return [_Piece(part, piece.depth + 1) for part in parts]


def refuse_earlier(table: Table, first: Snapshot, snapshot: Snapshot) -> None:
    """Raise SourceBusy for a snapshot that does not know all that had ended at the first one."""
    if snapshot.xmin < first.xmin or snapshot.lsn < first.lsn:
        raise SourceBusy(
            f"{table.id}: a piece would be read from a server that is behind the one before",
            detail=f"transactions below {first.xmin} had ended, here those below {snapshot.xmin}",
            hint="nothing was stored; it is tried again",
        )
