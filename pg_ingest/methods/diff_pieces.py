"""`snapshot_diff` in pieces: runs of its own ranges, each compared and read in a snapshot of its own.

Read `pieces.py` first. Rows and checksum of a range are of one snapshot, whichever piece it is in. What is
remembered of a range is therefore what is stored of it, as after any sync; only that ranges are of different
moments. A row whose key changes while the pieces are read may go from a range that is still to be read to one
that has been, and is seen in neither: but both sums say so truly, and at the next sync the second range
differs. So whatever one sync leaves out, or has twice, the next one finds.

**Pieces need an index.** A range of keys is in the order of our comparison: for numbers, times and uuids that
is the order of the server's index too. Texts are compared by their bytes, which an index on them rarely does;
each piece would be a scan of the whole table, so these tables are read at one moment or not at all.

A first load, where there is nothing to compare with, compares with ranges that hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pg_ingest.batch import Batch, Everything, Ranges, Reading
from pg_ingest.bookmark import SnapshotDiffBookmark
from pg_ingest.decode.types import arrow_schema
from pg_ingest.methods.diff_chunks import nothing_stored, stored
from pg_ingest.methods.diff_plan import Plan, bookmark_of, planned
from pg_ingest.methods.key_ranges import KeyRanges, runs_of
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.pieces import Cut, NotInPieces, Pieces
from pg_ingest.methods.request import Request
from pg_ingest.methods.snapshot_diff import comparable, decoded
from pg_ingest.methods.survey import cut_large
from pg_ingest.postgres.key_order import Cuts, InRanges, OrderedColumn, Values, in_order
from pg_ingest.postgres.range_sums import Surveyed

Places = range
"""Neighbouring ranges, by their numbers."""

Divided = tuple[tuple[Values | None, int, int], ...]
"""A range after it was cut: the lower bound of each part, its rows and checksum."""


@contextmanager
def read_in_pieces(request: Request) -> Iterator[Reading]:
    """As `snapshot_diff.read`, in pieces; raises NotInPieces as well."""
    if request.window is not None:
        raise NotInPieces("a window is asked for")
    plan = planned(*request.subject)
    request.session.explain(plan.query())
    notes: list[str] = []
    old = comparable(request.since, plan, notes)
    yield _reading(request, plan, old, notes)


@contextmanager
def catching_up(request: Request, notes: Sequence[str]) -> Iterator[Reading]:
    """As `diff_chunks.catching_up`, in pieces; raises NotInPieces as well."""
    assert isinstance(request.bookmark, SnapshotDiffBookmark)
    plan = planned(*request.subject)
    said: list[str] = []
    old = comparable(stored(request.bookmark, notes), plan, said)
    if old is None:
        raise NotInPieces("; ".join(said))
    yield _reading(request, plan, old, said)


def _reading(
    request: Request,
    plan: Plan,
    old: SnapshotDiffBookmark | None,
    notes: list[str],
) -> Reading:
    before = old or nothing_stored(plan, request.replication.split_hints.rows)
    compared = _Compared.begun(plan, before)
    with at_one_moment(plan.session, plan.table) as first:
        pass
    cutting = _by_rows(compared.before), range(len(compared.before.rows))
    pieces = Pieces(request, first, cutting)
    reading = Reading(
        schema=arrow_schema(plan.columns),
        batches=iter(()),
        scope=Everything(plan.unproven_key) if old is None else compared.scope(),
        bookmark=bookmark_of(plan, first.snapshot, before.seed, compared.order, compared.before),
        phase="snapshot" if old is None else "incremental",
        position_from="" if old is None else old.snapshot_lsn,
        position_to=str(first.snapshot.lsn),
        notes=notes,
    )

    def batches() -> Iterator[Batch]:
        yield from pieces.read_all(compared.rows)
        if old is not None:
            reading.scope = compared.scope()
            notes.append(
                f"{len(compared.changed):,} of {len(compared.before.rows):,} key ranges changed"
            )
        ranges = compared.after()
        reading.bookmark = bookmark_of(plan, first.snapshot, before.seed, compared.order, ranges)
        pieces.tell(reading)

    reading.batches = batches()
    return reading


def _by_rows(ranges: KeyRanges) -> Cut[Places]:
    """Runs of ranges with about as many rows each, one more a range so that empty ones count."""

    def cut_places(whole: Places, count: int, *, share: float) -> Sequence[Places]:
        total = sum(ranges.rows[place] + 1 for place in whole)
        starts, seen = [whole.start], 0
        for place in whole:
            if seen * count >= len(starts) * total and place > starts[-1]:
                starts.append(place)
            seen += ranges.rows[place] + 1
        ends = [*starts[1:], whole.stop]
        return [range(start, end) for start, end in zip(starts, ends, strict=True)]

    return cut_places


def _replaced(ranges: KeyRanges, found: Mapping[int, tuple[int, int]]) -> KeyRanges:
    """The ranges with other rows and checksums in some places."""
    known = enumerate(zip(ranges.rows, ranges.sums, strict=True))
    return KeyRanges.of(ranges.bounds, {**dict(known), **found})


def _divided(ranges: KeyRanges, finer: KeyRanges) -> dict[int, Divided]:
    """What has become of each range of `ranges` in `finer`, which has the same bounds and more."""
    own, place = set(ranges.bounds), 0
    parts: dict[int, Divided] = {}
    lowers = (None, *finer.bounds)
    for lower, rows, total in zip(lowers, finer.rows, finer.sums, strict=True):
        place += lower in own
        parts[place] = (*parts.get(place, ()), (lower, rows, total))
    return parts


@dataclass(slots=True)
class _Compared:
    """What was found in the pieces so far, range by range.

    Attributes:
        before: the ranges of the load before; `cuts`: their bounds.
        found: each range as it was read, cut where it was too large.
        changed: the numbers of those that differ.
    """

    plan: Plan
    surveyed: Surveyed
    before: KeyRanges
    cuts: Cuts
    found: dict[int, Divided] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    @classmethod
    def begun(cls, plan: Plan, before: SnapshotDiffBookmark) -> _Compared:
        surveyed = plan.surveyed_again(before)
        if any(each.as_text for each in surveyed.order):
            raise NotInPieces("its key is compared as text, by bytes, for which it has no index")
        ranges = KeyRanges.unpacked(before.ranges)
        if len(ranges.rows) < 2:
            raise NotInPieces("its key has one range only")
        cuts = in_order(plan.session, plan.table, surveyed.order, ranges.bounds)
        return cls(plan, surveyed, ranges, cuts)

    @property
    def order(self) -> tuple[OrderedColumn, ...]:
        return self.surveyed.order

    def rows(self, moment: Moment, places: Places) -> Iterator[Batch]:
        """The rows of those ranges among `places` that differ, all as of the moment."""
        sums = self.surveyed.sums(self.cuts, self._within(places))
        now = _replaced(self.before, {place: sums.get(place, (0, 0)) for place in places})
        changed = now.changed(self.before)
        parts = _divided(self.before, cut_large(self.surveyed, self.cuts, now, changed))
        if any(now.rows[place] for place in changed):
            yield from moment.rows(self.plan.query(self._within(changed)))
        self.found |= {place: parts[place] for place in places}
        self.changed = (self.changed - set(places)) | set(changed)

    def _within(self, places: Sequence[int]) -> InRanges:
        runs = runs_of(places, self.before.rows)
        return InRanges(self.order, self.cuts.chosen(runs.bounds), runs.open_start, runs.far)

    def scope(self) -> Ranges:
        """Which stored rows the ones that were read take the place of."""
        changed = sorted(self.changed)
        within = self._within(changed)
        bounds = decoded(within.order, within.cuts)
        rows = sum(self.before.rows[place] for place in changed)
        return Ranges(self.plan.key, bounds, within.open_start, rows)

    def after(self) -> KeyRanges:
        """What to compare with next time, when all pieces have been read."""
        parts = [part for place in range(len(self.before.rows)) for part in self.found[place]]
        bounds = tuple(bound for bound, _, _ in parts[1:] if bound is not None)
        rows, sums = tuple(part[1] for part in parts), tuple(part[2] for part in parts)
        return KeyRanges(bounds, rows, sums).joined()
