"""`xmin` and `delta_snapshot` in pieces: the same rows, range by range of the key; see `pieces.py`.

Three things differ from a reading at one moment. The position is made one that a crash leaves true *before*
the first piece, since afterwards nobody knows what the disk had at `S_0`. "Written since the last sync" ends
for each piece with its own snapshot. And whether keys must travel cannot be counted, so they do: in each
piece the rows that changed, then the keys of the others, in one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from pg_ingest.batch import AllKeys, Batch, Reading
from pg_ingest.bookmark import XminBookmark
from pg_ingest.decode.types import arrow_schema
from pg_ingest.methods.changed_rows import Plan, Start, durable_start, planned, scope_of
from pg_ingest.methods.delta_snapshot import LISTED, counted, listed, whole
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.pieces import NotInPieces, Pieces, by_key, columns_to_cut_by
from pg_ingest.methods.request import Request
from pg_ingest.postgres.ranges import KeyRange
from pg_ingest.postgres.row_versions import Either, Neither, server_of


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is read of each piece.

    Attributes:
        keys: the keys of all other rows come too.
        schema: of the batches.
    """

    plan: Plan
    start: Start
    keys: bool
    schema: pa.Schema

    def rows(self, moment: Moment, bounds: KeyRange) -> Iterator[Batch]:
        """The rows of a piece, as of its moment."""
        plan = self.plan
        if self.start.old is None:
            yield from moment.rows(plan.rows(bounds))
            return
        written = self.start.written(moment.snapshot.xmax)
        for batch in moment.rows(plan.rows(Either(written), bounds)):
            yield whole(batch, self.schema) if self.keys else batch
        if self.keys:
            for batch in moment.rows(plan.keys(Neither(written), bounds)):
                yield listed(batch, self.schema)


@contextmanager
def xmin(request: Request) -> Iterator[Reading]:
    """As `xmin.read`, in pieces; raises NotInPieces as well."""
    plan = _plan(request)
    with at_one_moment(request.session, request.table) as first:
        start = durable_start(first, plan, server_of(request.session), request.since)
    yield _reading(request, first, plan, start, keys=False, mark=start.now)


@contextmanager
def delta_snapshot(request: Request) -> Iterator[Reading]:
    """As `delta_snapshot.read`, in pieces; raises NotInPieces as well."""
    plan = _plan(request)
    with at_one_moment(request.session, request.table) as first:
        start = durable_start(first, plan, server_of(request.session), request.since)
    keys = start.old is not None and request.replication.replicate_deletes
    yield _reading(request, first, plan, start, keys=keys, mark=counted(start.now, None))


def _plan(request: Request) -> Plan:
    plan = planned(*request.subject, request.window)
    if plan.grouped:
        raise NotInPieces("rows that share an `update_key` have none of their own")
    return plan


def _reading(
    request: Request,
    first: Moment,
    plan: Plan,
    start: Start,
    *,
    keys: bool,
    mark: XminBookmark,
) -> Reading:
    schema = arrow_schema(plan.columns)
    asked = _Asked(plan, start, keys, schema.append(LISTED) if keys else schema)
    split = columns_to_cut_by(first.session, plan.table, plan.key)
    cutting = by_key(first.session, plan.table, split)
    pieces = Pieces(request, first, cutting)
    reading = Reading(
        schema=asked.schema,
        batches=iter(()),
        scope=AllKeys(plan.key) if keys else scope_of(start, plan),
        bookmark=mark,
        phase="incremental" if start.old else "snapshot",
        position_from=str(start.old.xmin) if start.old else "",
        position_to=str(start.now.xmin),
        notes=list(start.notes),
    )
    reading.batches = pieces.all_of(reading, asked.rows)
    return reading
