"""Snapshot diff: the server adds up checksums of ranges of the key; ranges that differ from last time are read.

Everything happens in **one** snapshot. One scan gives rows and checksum of each range
(`postgres/range_sums.py`). Where they are those of the bookmark, the rows are those of the last load, but for
a chance of 2^-64 (`postgres/checksum.py` argues it). The other ranges are read whole and take the place of
what is stored in them: rows that are new, rows with other values, and stored rows that are not there any
more. A row whose key changes leaves one range and comes to another, and both differ. Rows, and the checksums
of the same snapshot, are stored in one transaction of the destination; so what the next sync compares with is
what is stored.

No log, no clock, no `xmin`: nothing depends on the order in which transactions commit, on what restarts or
restores do to them, or on whether this is the primary. What the snapshot sees is what arrives.

**Ranges.** Bounds are keys, found by sampling at the first load and kept: rows that come at the end make the
last range grow and leave all others equal. A range that has changed and has grown too large is cut in the
same snapshot, so that what has come in bulk need not come again at the next change beside it. Small
neighbours are joined. Both need no rows, because checksums add up.

**When it does not pay.** If the changed ranges hold more than half of the rows, the table is read whole and
replaced. That is also what happens when checksums cannot be compared: other columns or types, another key,
row filter or major version of the server (its hash functions may have changed). The notes say why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from pg_ingest.batch import Batch, Everything, Ranges, Reading, Scope
from pg_ingest.bookmark import Bookmark, SnapshotDiffBookmark, method_of
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.decode.values import decode_column
from pg_ingest.errors import ConfigError
from pg_ingest.methods.diff_plan import Plan, bookmark_of, new_seed, planned
from pg_ingest.methods.key_ranges import KeyRanges, Runs, runs_of
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.request import Request
from pg_ingest.methods.survey import Survey, continued, first
from pg_ingest.postgres.checksum import RECIPE
from pg_ingest.postgres.key_order import (
    Cuts,
    InRanges,
    OrderedColumn,
)
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table

WHOLE_FROM = 100_000
"""Rows from which on a table of which more than half has changed is replaced as a whole, which is faster;
below, its rows are compared one by one, so that equal ones stay as they are."""


@contextmanager
def read(request: Request) -> Iterator[Reading]:
    """The rows of ranges that have changed since the bookmark; all rows where there is none to compare with.

    Raises ConfigError for a window, MethodUnavailable without a key that has an order or with NULL in it,
    SourceTableChanged, PermissionMissing, QueryRefused, BookmarkUnusable.
    """
    session, replication, table = request.subject
    if request.window is not None:
        raise ConfigError(
            f"{table.id} is compared by ranges of its key, not read in windows",
            hint="take `method: full_table` for a table with `partition_by`",
        )
    plan = planned(session, replication, table)
    session.explain(plan.query())
    notes: list[str] = []
    old = comparable(request.since, plan, notes)
    with at_one_moment(session, table) as moment:
        survey = _survey(plan, old)
        part = None if old is None else _part(survey, notes)
        if part is not None and _too_much(survey, part):
            notes.append("they hold more than half of the rows: the whole table is read")
            part = None
        yield _reading(moment, plan, old, survey, part, notes)


@contextmanager
def caught_up(
    session: Session, replication: Replication, table: Table, stored: SnapshotDiffBookmark
) -> Iterator[Reading]:
    """The rows of ranges that are not as they are stored, however many; raises as `read` does.

    The scope is Everything only where checksums cannot be compared.
    """
    plan = planned(session, replication, table)
    notes: list[str] = []
    old = comparable(stored, plan, notes)
    with at_one_moment(session, table) as moment:
        yield differing_at(moment, plan, old, notes, cut_all=True)


def differing_at(
    moment: Moment,
    plan: Plan,
    old: SnapshotDiffBookmark | None,
    notes: list[str],
    *,
    cut_all: bool = False,
) -> Reading:
    """The rows of ranges that at that moment are not as `old` says, however many; all rows without it."""
    survey = _survey(plan, old, cut_all=cut_all)
    part = None if old is None else _part(survey, notes)
    return _reading(moment, plan, old, survey, part, notes)


def _reading(
    moment: Moment,
    plan: Plan,
    old: SnapshotDiffBookmark | None,
    survey: Survey,
    part: _Part | None,
    notes: list[str],
) -> Reading:
    return Reading(
        schema=arrow_schema(plan.columns),
        batches=moment.checked(_batches(moment, plan, survey, part)),
        scope=_scope(plan, survey, part),
        bookmark=bookmark_of(plan, moment.snapshot, survey.seed, survey.order, survey.after),
        phase="snapshot" if old is None else "incremental",
        position_from="" if old is None else old.snapshot_lsn,
        position_to=str(moment.snapshot.lsn),
        notes=notes,
    )


def comparable(
    bookmark: Bookmark | None, plan: Plan, notes: list[str]
) -> SnapshotDiffBookmark | None:
    """The bookmark if checksums of now can be compared with its; else None, and a note says why."""
    if bookmark is None:
        return None
    if not isinstance(bookmark, SnapshotDiffBookmark):
        notes.append(f"all rows are read once: it was loaded by {method_of(bookmark)} before")
        return None
    major = plan.session.server_version // 10000
    known = {column.column.name for column in plan.order}
    reasons = {
        f"the server is of version {major}, it was {bookmark.server_major}": major
        != bookmark.server_major,
        "checksums are made in another way now": bookmark.recipe != RECIPE,
        "its columns or their types are others": bookmark.columns != plan.named_columns,
        "the row filter is another": bookmark.where != plan.where,
        f"the key was ({', '.join(bookmark.key)})": bookmark.key != plan.key
        or not known.issuperset(bookmark.cut_by),
    }
    why = [reason for reason, applies in reasons.items() if applies]
    if why:
        notes.append(f"all rows are read again: {'; '.join(why)}")
        return None
    return bookmark


def _survey(plan: Plan, old: SnapshotDiffBookmark | None, *, cut_all: bool = False) -> Survey:
    if old is None:
        return first(plan.surveyed(plan.order, new_seed()))
    surveyed = plan.surveyed_again(old)
    return continued(surveyed, KeyRanges.unpacked(old.ranges), cut_all=cut_all)


@dataclass(frozen=True, slots=True)
class _Part:
    """The ranges that are read: all rows in them, and how many there were at the load before."""

    within: InRanges
    rows: int
    stored: int


def _part(survey: Survey, notes: list[str]) -> _Part:
    """What has changed."""
    before, changed = survey.before, survey.changed
    rows = sum(survey.found.rows[place] for place in changed)
    stored = sum(before.rows[place] for place in changed)
    if changed:
        notes.append(f"{len(changed):,} of {len(before.rows):,} key ranges changed")
    runs = runs_of(changed, survey.found.rows)
    return _Part(_within(survey, runs), rows, stored)


def _too_much(survey: Survey, part: _Part) -> bool:
    total = max(sum(survey.found.rows), sum(survey.before.rows))
    return total >= WHOLE_FROM and 2 * max(part.rows, part.stored) > total


def _within(survey: Survey, runs: Runs) -> InRanges:
    cuts = survey.cuts.chosen(runs.bounds)
    return InRanges(survey.order, cuts, runs.open_start, runs.far)


def _batches(moment: Moment, plan: Plan, survey: Survey, part: _Part | None) -> Iterator[Batch]:
    if part is None:
        yield from moment.all_rows(plan.columns, plan.where)
    elif part.rows:
        yield from moment.rows(plan.query(part.within))


def _scope(plan: Plan, survey: Survey, part: _Part | None) -> Scope:
    if part is None:
        return Everything(plan.unproven_key)
    within = part.within
    return Ranges(plan.key, decoded(within.order, within.cuts), within.open_start, part.stored)


def decoded(order: Sequence[OrderedColumn], cuts: Cuts) -> pa.RecordBatch:
    """Bounds as the destination compares them: texts, or values of the column's Arrow type."""
    arrays = []
    for number, each in enumerate(order):
        texts = pa.array([values[number] for values in cuts.values], pa.string())
        arrays.append(texts if each.as_text else decode_column(texts, each.column).values)
    return pa.RecordBatch.from_arrays(arrays, names=[each.column.name for each in order])
