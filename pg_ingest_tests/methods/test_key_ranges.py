"""Ranges of a key as plain values: comparing, cutting, joining, packing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.errors import BookmarkUnusable
from pg_ingest.methods.key_ranges import KeyRanges, runs_of, wanted_rows

sums = st.integers(0, (1 << 64) - 1)


@st.composite
def some_ranges(draw: st.DrawFn) -> KeyRanges:
    bounds = sorted(draw(st.sets(st.tuples(st.text(max_size=5), st.sampled_from("ab")))))
    count = len(bounds) + 1
    rows = draw(st.lists(st.integers(0, 9000), min_size=count, max_size=count))
    found = draw(st.lists(sums, min_size=count, max_size=count))
    return KeyRanges(tuple(bounds), tuple(rows), tuple(found))


@given(some_ranges())
def test_packed_and_unpacked(ranges: KeyRanges) -> None:
    assert KeyRanges.unpacked(ranges.packed()) == ranges


@pytest.mark.parametrize("text", ["", "nonsense", KeyRanges((), (1,), (2,)).packed()[:-3]])
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(BookmarkUnusable, match="cannot be read"):
        KeyRanges.unpacked(text)


@given(some_ranges())
def test_joining_keeps_the_whole(ranges: KeyRanges) -> None:
    joined = ranges.joined()
    assert set(joined.bounds) <= set(ranges.bounds)
    assert sum(joined.rows) == sum(ranges.rows)
    assert (sum(joined.sums) - sum(ranges.sums)) % (1 << 64) == 0
    most = wanted_rows(sum(ranges.rows))
    pairs = zip(joined.rows, joined.rows[1:], strict=False)
    assert all(one + two > most for one, two in pairs)


def test_cutting_puts_pieces_in_the_place_of_a_range() -> None:
    ranges = KeyRanges((("b",), ("d",)), (1, 9, 1), (10, 20, 30))
    bounds = [("b",), ("bb",), ("c",), ("d",)]
    finer = ranges.cut(bounds, [1], {1: (4, 5), 3: (5, 15), 0: (7, 7)})
    assert finer == KeyRanges(tuple(bounds), (1, 4, 0, 5, 1), (10, 5, 0, 15, 30))


def test_changed_and_too_large_ranges() -> None:
    before = KeyRanges((("b",), ("d",)), (1, 9, 2000), (10, 20, 30))
    now = KeyRanges((("b",), ("d",)), (1, 9, 9000), (10, 21, 30))
    assert now.changed(before) == [1, 2]
    assert now.too_large([1, 2]) == [2]
    assert now.too_large([0, 1]) == []


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 5))
def test_runs(changed: Sequence[bool], pieces: int) -> None:
    """Bounds say which places are in, and pieces between wide gaps hold all of them."""
    places = [place for place, is_in in enumerate(changed) if is_in]
    runs = runs_of(places, [1] * len(changed), pieces)
    for place, expected in enumerate(changed):
        below = sum(bound < place for bound in runs.bounds)
        assert expected == (below % 2 == (0 if runs.open_start else 1))
    assert len(runs.far) < pieces
    ends = {position for position in range(len(runs.bounds)) if position % 2 != runs.open_start}
    assert ends.issuperset(runs.far)
    assert len(runs.bounds) - 1 not in runs.far


@pytest.mark.parametrize(
    ("total", "most", "least"),
    [(0, 1, 0), (10, 10, 10), (6_000_000, 1300, 1100), (10**9, 40_000, 40_000)],
)
def test_how_many_rows_a_range_has(total: int, most: int, least: int) -> None:
    assert least <= wanted_rows(total) <= most
