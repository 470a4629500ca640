"""A table joins the log with the rows that another method has stored, instead of all rows.

What the log goes on from is a destination that holds what one snapshot sees (`changelog/handover.py`). How it
came to hold that does not matter. `delta_snapshot` and `snapshot_diff` bring it there each time they sync: what
they read in one snapshot, together with what is stored, is the table as that snapshot sees it. So a table that
one of them has loaded joins with one more reading of its old method, in the joining snapshot: the rows that
have changed and a comparison of keys, or the ranges that differ. It is stored together with the log's bookmark
of that very snapshot. Rows that `xmin` has loaded are read as by `delta_snapshot`, which finds the deletes that
`xmin` left out.

The old method's bookmark is believed only as far as the method itself would believe it: another server, a
rewritten table, other columns, another key or row filter make all rows be read. So does what these methods do
not store as the log does: generated columns, and shapes other than `live`. A standby's snapshots that have a
place in the log are made otherwise; there all rows are read too. The old bookmark is gone with the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pg_ingest.batch import AllKeys, Joined, Keys, Ranges, Reading
from pg_ingest.bookmark import Bookmark, SnapshotDiffBookmark, XminBookmark, goes_on, method_of
from pg_ingest.changelog.fold import LSN
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.selection import Replication
from pg_ingest.methods import changed_rows, delta_snapshot, diff_plan, log_based, snapshot_diff
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.postgres.row_versions import server_of
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table


def why_not(
    replication: Replication, table: Table, bookmark: Bookmark, *, standby: bool = False
) -> str:
    """Why all rows must be read, as far as it can be told without reading any; empty where they need not."""
    before = f"the method was {method_of(bookmark)} before"
    generated = [column.name for column in table.columns if column.generated]
    stored = set(replication.columns or generated) - set(replication.exclude_columns)
    computed = [name for name in generated if name in stored]
    reasons = {
        f"its shape is {replication.shape} now": replication.shape is not Shape.LIVE,
        "the source is a standby": standby,
        "it has no key": not (replication.key or table.primary_key),
        "rows were replaced in groups": isinstance(bookmark, XminBookmark) and bookmark.grouped,
        f"{', '.join(computed)}: the log has no values of generated columns": bool(computed),
    }
    if not goes_on(bookmark, Method.LOG_BASED):
        return before
    return next((f"{before}, and {reason}" for reason, holds in reasons.items() if holds), "")


@contextmanager
def taken_over(
    session: Session,
    replication: Replication,
    table: Table,
    old: Bookmark,
    *,
    inserts_only: bool = False,
) -> Iterator[Reading]:
    """What has changed since the old method's bookmark, and the bookmark from which the log continues.

    `inserts_only` as for `log_based.snapshot`. Raises ReadAnew where all rows must be read, and what
    `log_based.snapshot` and the old method raise.
    """
    reason = why_not(replication, table, old, standby=session.is_standby)
    if reason:
        raise ReadAnew(reason)
    begin = log_based.beginning(session, replication, table, inserts_only=inserts_only)
    joined = log_based.joining(session, table, begin)
    read = _by_checksums if isinstance(old, SnapshotDiffBookmark) else _by_row_versions
    with read(session, replication, table, old) as (moment, found):
        assert isinstance(found.scope, Keys | AllKeys | Ranges)
        at = moment.snapshot.lsn
        note = f"goes on from what {method_of(old)} has stored: only what differs was read"
        yield replace(
            found,
            scope=Joined(found.scope, LSN, int(at)),
            bookmark=joined(moment.snapshot, moment.files),
            position_to=str(at),
            notes=[note, *found.notes],
        )


@contextmanager
def _by_row_versions(
    session: Session, replication: Replication, table: Table, old: Bookmark
) -> Iterator[tuple[Moment, Reading]]:
    plan = changed_rows.planned(session, replication, table)
    server = server_of(session)
    with at_one_moment(session, table) as moment:
        start = changed_rows.started(moment, plan, server, old)
        if start.old is None:
            raise ReadAnew("; ".join(start.notes))
        yield moment, delta_snapshot.reading_at(moment, plan, start, deletes=True)


@contextmanager
def _by_checksums(
    session: Session, replication: Replication, table: Table, old: Bookmark
) -> Iterator[tuple[Moment, Reading]]:
    plan = diff_plan.planned(session, replication, table)
    session.explain(plan.query())
    notes: list[str] = []
    comparable = snapshot_diff.comparable(old, plan, notes)
    if comparable is None:
        raise ReadAnew("; ".join(notes))
    with at_one_moment(session, table) as moment:
        yield moment, snapshot_diff.differing_at(moment, plan, comparable, notes)
