"""From a table's snapshot to the log, without losing a change and without applying one twice.

The slot exists before the snapshot is taken, so every transaction is in the snapshot, in the log, or
in both. The log says each transaction's id, and the snapshot says which ids it can see: those below
`xmin`, and those below `xmax` that were not in progress. A logged transaction is skipped exactly when
the snapshot sees it. No position is compared, so it does not matter in which order transactions
became visible and reached the log (these orders differ).

The log has 32 bits of the id; the snapshot's epoch completes them. That is unambiguous for two
thousand million transactions around the snapshot; behind `joined_lsn`, where no transaction can be
visible in the snapshot any more, ids are not looked at, so no later wraparound can be mistaken.

On a standby `in_progress` is empty although transactions run on the primary: there this rule does not
hold. But on a standby transactions become visible in the order of their commit records, and a snapshot that
a slot exports says at which position it is (`postgres/anchor.py`). Such a snapshot knows no ids,
`snapshot_xmax` is 0; what commits before its position counts as applied, everything else is applied.
"""

from __future__ import annotations

import polars as pl

from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.fold import LSN, SEQUENCE
from pg_ingest.lsn import Lsn

XID = "_pgi_xid"

_EPOCH = 1 << 32


def still_to_apply(changes: pl.DataFrame, bookmark: LogBasedBookmark) -> pl.DataFrame:
    """The changes that are neither applied nor contained in the bookmark's snapshot."""
    lsn, sequence = pl.col(LSN), pl.col(SEQUENCE)
    applied = Lsn.parse(bookmark.lsn)
    later = lsn > applied
    if bookmark.sequence >= 0:
        later = later | ((lsn == applied) & (sequence > bookmark.sequence))
    if bookmark.snapshot_xmax:
        later = later & ~((lsn <= Lsn.parse(bookmark.joined_lsn)) & _seen(bookmark))
    left = changes.select(later).to_series()
    return changes if left.all() else changes.filter(left)


def is_followed(bookmark: LogBasedBookmark, since: Lsn) -> bool:
    """Whether the log has had all changes of the table since the bookmark's snapshot was asked for."""
    return Lsn.parse(bookmark.asked_lsn or bookmark.joined_lsn) >= since


def _seen(bookmark: LogBasedBookmark) -> pl.Expr:
    xid = _widened(pl.col(XID).cast(pl.Int64), bookmark.snapshot_xmax)
    running = pl.Series(bookmark.snapshot_in_progress, dtype=pl.Int64)
    return (xid < bookmark.snapshot_xmin) | (
        (xid < bookmark.snapshot_xmax) & ~xid.is_in(running.implode())
    )


def _widened(xid: pl.Expr, near: int) -> pl.Expr:
    """The 64-bit id with these low 32 bits that is nearest to `near`."""
    low = near % _EPOCH
    distance = (xid - low + _EPOCH // 2) % _EPOCH - _EPOCH // 2
    return near + distance
