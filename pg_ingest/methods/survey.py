"""Looking at a table by ranges of its key: what has changed, and with which ranges to go on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.values import decode_column
from pg_ingest.methods.key_ranges import TOO_LARGE, KeyRanges, Runs, runs_of, wanted_rows
from pg_ingest.postgres.key_order import Cuts, InRanges, OrderedColumn, Values, in_order
from pg_ingest.postgres.range_sums import Surveyed

_SAMPLED_ROWS = 200
"""Rows looked at for each range of a first load. Ranges then differ by some ten percent from each other; where
neighbouring keys stand on one page, and pages are what is looked at, by a factor of two."""

_ENOUGH = 0.8
"""Part of the bounds that may be left when they are made of fewer columns."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found in one snapshot.

    Attributes:
        order, cuts: what bounds are of, and those of `before` and `found`.
        before: the ranges as they were at the load before (at a first one: as they are).
        found: the same ranges as they are.
        changed: places that differ, ascending.
        after: as `found`, cut and joined: what to compare with next time.
    """

    seed: int
    order: tuple[OrderedColumn, ...]
    cuts: Cuts
    before: KeyRanges
    found: KeyRanges
    changed: list[int]
    after: KeyRanges


def first(surveyed: Surveyed) -> Survey:
    """Cut the table into ranges and look at them."""
    surveyed, cuts = sampled(surveyed, surveyed.count())
    ranges = KeyRanges.of(cuts.values, surveyed.sums(cuts))
    after = cut_large(surveyed, cuts, ranges, range(len(ranges.rows))).joined()
    return Survey(surveyed.seed, surveyed.order, cuts, ranges, ranges, [], after)


def sampled(surveyed: Surveyed, total: int) -> tuple[Surveyed, Cuts]:
    """Bounds for a table of about so many rows, and by which columns of the key they are."""
    each = wanted_rows(total)
    if total <= TOO_LARGE * each:
        return surveyed, Cuts()
    share = min(1.0, _SAMPLED_ROWS / each)
    found = surveyed.points(Cuts(), [0], None, rows=each, share=share)
    surveyed, points = _narrowed(surveyed, found)
    return surveyed, _usable(surveyed, points)


def continued(surveyed: Surveyed, before: KeyRanges, *, cut_all: bool = False) -> Survey:
    """Look at the ranges of the load before; one that is too large is cut if it has changed, or in any case."""
    cuts = in_order(surveyed.session, surveyed.table, surveyed.order, before.bounds)
    found = KeyRanges.of(cuts.values, surveyed.sums(cuts))
    changed = found.changed(before)
    among = range(len(found.rows)) if cut_all else changed
    after = cut_large(surveyed, cuts, found, among).joined()
    return Survey(surveyed.seed, surveyed.order, cuts, before, found, changed, after)


def _narrowed(surveyed: Surveyed, points: Sequence[Values]) -> tuple[Surveyed, list[Values]]:
    """With as few columns as tell the points apart: fewer are found faster."""
    for width in range(1, len(surveyed.order) + 1):
        left = list(dict.fromkeys(values[:width] for values in points))
        if len(left) >= _ENOUGH * len(points):
            break
    return replace(surveyed, order=surveyed.order[:width]), left


def cut_large(
    surveyed: Surveyed, cuts: Cuts, ranges: KeyRanges, among: Collection[int]
) -> KeyRanges:
    """The ranges with those cut that are too large; one that no point divides stays."""
    places = ranges.too_large(among)
    if not places:
        return ranges
    order = surveyed.order
    within = _inside(order, cuts, runs_of(places, ranges.rows))
    each = wanted_rows(sum(ranges.rows))
    points = surveyed.points(cuts, places, within, rows=each, share=1.0)
    finer = _usable(surveyed, [*cuts.values, *points])
    if len(finer.values) == len(cuts.values):
        return ranges
    return ranges.cut(finer.values, places, surveyed.sums(finer, within))


def _inside(order: tuple[OrderedColumn, ...], cuts: Cuts, runs: Runs) -> InRanges:
    return InRanges(order, cuts.chosen(runs.bounds), runs.open_start, runs.far)


def _usable(surveyed: Surveyed, bounds: Collection[Values]) -> Cuts:
    """The bounds in order, without those that the destination could not hold (a year of 294276)."""
    cuts = in_order(surveyed.session, surveyed.table, surveyed.order, bounds)
    good = [True] * len(cuts.values)
    for number, each in enumerate(surveyed.order):
        if not each.as_text:
            texts = pa.array([values[number] for values in cuts.values], pa.string())
            valid = pc.is_valid(decode_column(texts, each.column).values).to_pylist()
            good = [one and other for one, other in zip(good, valid, strict=True)]
    return cuts.chosen([place for place, usable in enumerate(good) if usable])
