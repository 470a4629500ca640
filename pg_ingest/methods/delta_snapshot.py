"""Delta snapshot: changed rows as by `xmin`, and the rows that are gone, by comparing keys.

Everything is read in **one** snapshot: the rows that changed (`methods/xmin.py` says why none is missed), and
then the keys of all other rows. Together these are all keys there are at that moment, so the stored rows with
other keys are exactly those that were deleted, whose key was changed, or that pass the filter no more. Each
key comes once, with its row or alone, and the destination checks that.

**Mostly the keys need not travel.** One scan counts the rows, those that have not changed since the last
sync, and those whose writers might still come again at the next one (ids from the snapshot's xmin on). If at
the last sync there were `n` rows, all below its xmin, then each of them that was neither deleted nor changed
is still an unchanged row, and there are no other unchanged rows. So *`n` unchanged rows now* means that none
of the `n` is gone: there is nothing to delete. This is exact, no checksum is involved, and it covers the
tables where nothing happened and those that only grow. An update makes the number smaller, as a delete does;
then the keys travel.

**Where nothing is unique**, `update_key` names columns that groups of rows share. When one row of a group is
new, all rows of the group are read and take the place of the stored ones, doubles included. Which row of a
group is gone no key can tell; so where the number of unchanged rows says that one may be, all rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import pyarrow as pa

from pg_ingest.batch import SYSTEM, AllKeys, Batch, Reading
from pg_ingest.bookmark import DeltaSnapshotBookmark, XminBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.methods import changed_rows
from pg_ingest.methods.changed_rows import (
    Plan,
    Start,
    durably,
    first_position,
    planned,
    scope_of,
    started,
)
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.request import Request
from pg_ingest.postgres.row_versions import (
    Either,
    Neither,
    WrittenBetween,
    count_rows,
    server_of,
)
from pg_ingest.postgres.select import Condition
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table

LISTED = pa.field("_pgi_listed", pa.bool_(), metadata={SYSTEM: b"control"})


@contextmanager
def read(request: Request) -> Iterator[Reading]:
    """The rows written since the bookmark, and what says which others are gone; else as `xmin.read`.

    With `replicate_deletes: false` only the former.
    """
    session, replication, table = request.subject
    plan = planned(session, replication, table, request.window)
    server = server_of(session)
    with at_one_moment(session, table) as moment:
        start = started(moment, plan, server, request.since)
        yield reading_at(moment, plan, start, deletes=replication.replicate_deletes)


def reading_at(moment: Moment, plan: Plan, start: Start, *, deletes: bool) -> Reading:
    """What has changed since the start's bookmark at that moment; with `deletes`, what is gone too."""
    news = _looked(moment, plan, start, deletes=deletes)
    if plan.grouped and news.may_lack:
        news, start = replace(news, may_lack=False), _anew(start)
    schema = arrow_schema(plan.columns)
    reading = Reading(
        schema=schema.append(LISTED) if news.may_lack else schema,
        batches=iter(()),
        scope=AllKeys(plan.key) if news.may_lack else scope_of(start, plan),
        bookmark=news.bookmark,
        phase="incremental" if start.old else "snapshot",
        position_from=str(start.old.xmin) if start.old else "",
        position_to=str(start.now.xmin),
        notes=list(start.notes),
    )
    batches = _batches(moment, plan, start, news, reading.schema)
    reading.batches = durably(moment, start, reading, batches)
    return reading


@dataclass(frozen=True, slots=True)
class _News:
    """What one scan says of the table.

    Attributes:
        changed: there are rows to read.
        may_lack: stored rows may have no row at the source any more, so all keys must travel.
    """

    changed: bool
    may_lack: bool
    bookmark: DeltaSnapshotBookmark


def _looked(moment: Moment, plan: Plan, start: Start, *, deletes: bool) -> _News:
    now, old = start.now, start.old
    if not deletes:
        return _News(changed=True, may_lack=False, bookmark=counted(now, None))
    conditions: list[Condition] = [Either(start.changed), WrittenBetween(now.xmin, now.xmax)]
    total, changed, open_ended = count_rows(moment.session, plan.table, plan.where, conditions)
    before = old.rows if isinstance(old, DeltaSnapshotBookmark) else None
    return _News(
        changed=old is None or changed > 0,
        may_lack=old is not None and total - changed != before,
        bookmark=counted(now, None if open_ended else total),
    )


def counted(now: XminBookmark, rows: int | None) -> DeltaSnapshotBookmark:
    """The bookmark, with how many rows there were."""
    known = {each.name: getattr(now, each.name) for each in fields(XminBookmark)}
    return DeltaSnapshotBookmark(**known, rows=rows)


def _anew(start: Start) -> Start:
    note = "all rows are read: some were changed or deleted, and no key tells which"
    return replace(start, old=None, notes=(*start.notes, note))


def _batches(
    moment: Moment, plan: Plan, start: Start, news: _News, schema: pa.Schema
) -> Iterator[Batch]:
    """All rows; or those that changed, and where it must be the keys of the others."""
    if start.old is None:
        yield from moment.all_rows(plan.columns, plan.where)
        return
    if plan.grouped:
        if news.changed:
            yield from moment.rows(plan.groups(Either(start.changed)))
        return
    if news.changed:
        for batch in moment.rows(plan.rows(Either(start.changed))):
            yield whole(batch, schema) if news.may_lack else batch
    if news.may_lack:
        for batch in moment.rows(plan.keys(Neither(start.changed))):
            yield listed(batch, schema)


def whole(batch: Batch, schema: pa.Schema) -> Batch:
    """Rows that came whole, with LISTED."""
    listed = pa.repeat(pa.scalar(False), batch.rows.num_rows)
    rows = pa.RecordBatch.from_arrays([*batch.rows.columns, listed], schema=schema)
    return Batch(rows, batch.rejected, batch.size)


def listed(batch: Batch, schema: pa.Schema) -> Batch:
    """Rows of which only the key is known; one whose key cannot be stored has no stored row either."""
    count = batch.rows.num_rows
    known = {name: batch.rows.column(name) for name in batch.rows.schema.names}
    known[LISTED.name] = pa.repeat(pa.scalar(True), count)
    arrays = [
        known[field.name] if field.name in known else pa.nulls(count, field.type)
        for field in schema
    ]
    return Batch(pa.RecordBatch.from_arrays(arrays, schema=schema), size=batch.size)


def beginning(session: Session, replication: Replication, table: Table) -> Beginning:
    """What the first load of the table reads in chunks; raises as `read` does.

    How many rows there were is not known then, so all keys travel when the chunks are caught up.
    """
    plan = planned(session, replication, table)
    return changed_rows.beginning(plan, lambda: counted(first_position(session, plan), None))
