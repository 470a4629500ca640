"""The first load of snapshot diff in chunks: of many moments while it grows, of one when it is seen.

Read `methods/chunks.py` first. Here nothing is remembered of *when* a chunk was read. What is remembered is
*what was stored of it*: the rows and the checksum of each range, taken in the snapshot that the chunk's rows
are read in, and stored in one transaction with them.

**Why that is enough.** Before the first chunk the key is cut into ranges `R` once, as any first load of
this method does. (These are some thousand small ranges to compare; a chunk is one large range to read, in the
order of the server's index, and need not begin or end where one of them does.) For each chunk `c`, with its
snapshot `S_c`, and each `R` the server says how many rows of `c` lie in `R`, and the sum of their checksums.
Each key lies in one chunk and in one `R`, and both numbers add up. So over all chunks they give the number and
the checksum of exactly those rows that are *stored* in `R`, of whatever moments they are. A row that was in an
unread chunk and went to one that had been read is nowhere, one that went the other way is stored twice under
two keys, one that was deleted is still there: the sums are of what is stored, with all that is wrong in it.

When the last chunk is stored, all ranges are looked at once more, in **one** snapshot `T`. Where rows and
checksum are those of what is stored, the rows are, but for a chance of 2^-64 (`postgres/checksum.py`). Every
other range is read whole in `T` and takes the place of all that is stored in it, in one transaction with the
sums of `T`. Then the table is what `T` saw; only then anybody sees it. It is the same comparison as any later
sync makes, with a bookmark that says of several moments what it otherwise says of one.

So TRUNCATE, VACUUM FULL, partitions that come and go, a promotion, a server that crashed and lost commits: all
of this is found like any other change, and none of it ends the load. Other columns, another key, filter or
major version do, for then checksums mean something else.

**What is held, and for how long.** No chunk's transaction is longer than that chunk. The comparison is one
transaction, as long as any later sync of this method: one scan for the sums, and then reading the ranges that
changed meanwhile. Where writes go all over the table that is most of them. If the server cancels it, it is
made in pieces (`diff_pieces.py`): then each piece is of one moment, and what moved between them comes with
the next sync.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from pg_ingest.batch import Reading
from pg_ingest.bookmark import Bookmark, SnapshotDiffBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.errors import BookmarkUnusable
from pg_ingest.methods import snapshot_diff
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.diff_plan import Plan, bookmark_of, new_seed, planned
from pg_ingest.methods.key_ranges import KeyRanges
from pg_ingest.methods.request import Request
from pg_ingest.methods.survey import sampled
from pg_ingest.postgres.checksum import RECIPE
from pg_ingest.postgres.key_order import in_order
from pg_ingest.postgres.ranges import KeyRange
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table

Found = Mapping[int, tuple[int, int]]
"""Rows and checksum by place."""


def beginning(session: Session, replication: Replication, table: Table) -> Beginning:
    """What the first load of the table reads in chunks; raises as `snapshot_diff.read` does."""
    plan = planned(session, replication, table)

    def look(session: Session, start: Bookmark, bounds: KeyRange) -> str:
        assert isinstance(start, SnapshotDiffBookmark)
        return packed(_found(replace(plan, session=session), start, bounds))

    return Beginning(
        columns=plan.columns,
        schema=arrow_schema(plan.columns),
        key=plan.key,
        unproven_key=plan.unproven_key,
        dress=lambda batches, _lsn: batches,
        position=lambda: nothing_stored(plan, replication.split_hints.rows),
        settings=_settings(plan),
        look=look,
    )


def catching_up(request: Request, notes: Sequence[str]) -> AbstractContextManager[Reading]:
    """The rows of ranges that are not as they are stored; see `snapshot_diff.caught_up`."""
    assert isinstance(request.bookmark, SnapshotDiffBookmark)
    return snapshot_diff.caught_up(*request.subject, stored(request.bookmark, notes))


def stored(before: SnapshotDiffBookmark, notes: Sequence[str]) -> SnapshotDiffBookmark:
    """What is stored after chunks of which `look` noted this; raises BookmarkUnusable."""
    ranges = KeyRanges.unpacked(before.ranges)
    for note in notes:
        ranges = ranges.more(unpacked(note))
    return replace(before, ranges=ranges.packed())


def _settings(plan: Plan) -> str:
    """What checksums depend on, and the order of keys."""
    order = [(each.column.name, each.as_text, each.ascii_bounds) for each in plan.order]
    return repr((plan.where, plan.session.server_version // 10000, RECIPE, order))


def nothing_stored(plan: Plan, hint: int | None) -> SnapshotDiffBookmark:
    """The ranges that will be compared, empty; bounds are sampled for `hint` rows, if it is not None."""
    rows = plan.session.explain(plan.query()).rows if hint is None else hint
    with plan.session.snapshot() as seen:
        surveyed, cuts = sampled(plan.surveyed(plan.order, new_seed()), rows)
        ranges = KeyRanges.empty(cuts.values)
        return bookmark_of(plan, seen, surveyed.seed, surveyed.order, ranges)


def _found(plan: Plan, start: SnapshotDiffBookmark, bounds: KeyRange) -> Found:
    surveyed = plan.surveyed_again(start)
    known = KeyRanges.unpacked(start.ranges).bounds
    cuts = in_order(plan.session, plan.table, surveyed.order, known)
    return surveyed.sums(cuts, bounds)


def packed(found: Found) -> str:
    """A short text: some fifteen bytes a range."""
    lines = [(place, rows, total) for place, (rows, total) in sorted(found.items())]
    return base64.b85encode(zlib.compress(json.dumps(lines).encode(), 6)).decode()


def unpacked(note: str) -> Found:
    """What `packed` wrote; raises BookmarkUnusable for anything else."""
    try:
        lines = json.loads(zlib.decompress(base64.b85decode(note)))
        return {int(place): (int(rows), int(total)) for place, rows, total in lines}
    except (ValueError, TypeError, zlib.error) as error:
        raise BookmarkUnusable(
            "what was noted of the chunks of an unfinished load cannot be read",
            detail=type(error).__name__,
            hint="`pg-ingest reset TABLE` begins the load anew",
        ) from None
