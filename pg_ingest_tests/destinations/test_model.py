"""Random loads against a plain Python model of what each scope means."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.batch import SYSTEM, AllKeys, Everything, Groups, Keys, LoadCounts, Scope, Window
from pg_ingest_tests.destinations.warehouse import Warehouse

SCHEMA = pa.schema(
    [("id", pa.int64()), ("part", pa.string()), ("price", pa.float64()), ("name", pa.string())]
)
LISTING = SCHEMA.append(pa.field("_pgi_listed", pa.bool_(), metadata={SYSTEM: b"control"}))
Row = tuple[int | None, str | None, float | None, str | None]

ids = st.one_of(st.none(), st.integers(0, 5))
parts = st.sampled_from([None, "", "a"])
prices = st.sampled_from([None, 0.0, -0.0, 1.5, math.nan, math.inf])
names = st.sampled_from([None, "", "NULL", "é"])
rows = st.lists(st.tuples(ids, parts, prices, names), max_size=6)
keyed = st.lists(
    st.tuples(ids, parts, prices, names), max_size=6, unique_by=lambda row: (row[0], row[1])
)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Scope, list[Row]]:
    start = draw(st.integers(0, 4))
    end = draw(st.integers(start + 1, 6))
    inside = st.tuples(st.integers(start, end - 1), parts, prices, names)
    return Window("id", str(start), str(end)), draw(st.lists(inside, max_size=6))


@st.composite
def listings(draw: st.DrawFn) -> tuple[Scope, list[Any]]:
    """Some keys with their rows, some only listed: then the rest of the row is NULL."""
    told = [
        (*row[:2], None, None, True) if draw(st.booleans()) else (*row, False)
        for row in draw(keyed)
    ]
    return AllKeys(("id", "part")), told


loads = st.one_of(
    st.tuples(st.just(Everything()), rows),
    st.tuples(st.just(Keys(("id", "part"))), keyed),
    st.tuples(st.just(Groups(("id", "part"))), rows),
    listings(),
    windows(),
)


def exact(row: Row) -> tuple[str, ...]:
    """A form in which rows are equal when they are the same: NaN is NaN, -0.0 is not 0.0."""
    return tuple(repr(value) for value in row)


def expected(stored: list[Row], scope: Scope, arriving: list[Row]) -> tuple[list[Row], LoadCounts]:
    match scope:
        case Keys():
            return merged(stored, arriving)
        case AllKeys():
            return listed(stored, arriving)
        case Groups():
            return grouped(stored, arriving)
        case Window(_, start, end):
            gone = [r for r in stored if r[0] is not None and int(start) <= r[0] < int(end)]
        case Everything():
            gone = stored
    kept = list((Counter(map(exact, stored)) - Counter(map(exact, gone))).elements())
    left = [row for row in stored if row not in gone]
    assert len(kept) == len(left)
    after = left + arriving
    if Counter(map(exact, gone)) == Counter(map(exact, arriving)):
        return after, LoadCounts(0, 0, 0, 0, len(after))
    return after, LoadCounts(len(arriving), 0, len(gone), 0, len(after))


def merged(stored: list[Row], arriving: list[Row]) -> tuple[list[Row], LoadCounts]:
    old = {row[:2]: row for row in stored}
    new = {row[:2]: row for row in arriving}
    inserted = sum(key not in old for key in new)
    updated = sum(exact(old[key]) != exact(row) for key, row in new.items() if key in old)
    after = list({**old, **new}.values())
    return after, LoadCounts(inserted, updated, 0, 0, len(after))


def listed(stored: list[Row], told: list[Any]) -> tuple[list[Row], LoadCounts]:
    left = [row for row in stored if row[:2] in {one[:2] for one in told}]
    after, counts = merged(left, [one[:4] for one in told if not one[4]])
    return after, replace(counts, deleted=len(stored) - len(left))


def grouped(stored: list[Row], arriving: list[Row]) -> tuple[list[Row], LoadCounts]:
    inserted = deleted = 0
    after = stored
    for key in {row[:2] for row in arriving}:
        old = [row for row in stored if row[:2] == key]
        new = [row for row in arriving if row[:2] == key]
        if Counter(map(exact, old)) != Counter(map(exact, new)):
            inserted, deleted = inserted + len(new), deleted + len(old)
            after = [row for row in after if row[:2] != key] + new
    return after, LoadCounts(inserted, 0, deleted, 0, len(after))


def keys_unique(stored: list[Row]) -> bool:
    return len({row[:2] for row in stored}) == len(stored)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(loads, min_size=1, max_size=5))
def test_any_sequence_of_loads_does_what_the_model_does(
    sequence: list[tuple[Scope, list[Row]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(Path(folder) / "warehouse.duckdb")
        stored: list[Row] = []
        for scope, arriving in sequence:
            if isinstance(scope, Keys | AllKeys) and not keys_unique(stored):
                continue
            if isinstance(scope, AllKeys) and not warehouse.path.exists():
                continue
            stored, counts = expected(stored, scope, arriving)
            schema = LISTING if isinstance(scope, AllKeys) else SCHEMA
            assert warehouse.load(scope, arriving, schema=schema).counts == counts
        if warehouse.path.exists():
            compare(warehouse, stored)


def compare(warehouse: Warehouse, stored: list[Row]) -> None:
    found: list[Any] = warehouse.rows()
    assert Counter(map(exact, found)) == Counter(map(exact, stored))
