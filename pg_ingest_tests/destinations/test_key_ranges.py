"""Ranges of the key are made what the stage says; nothing outside of them is touched."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pg_ingest.batch import Everything, LoadCounts, Ranges
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.errors import DestinationFailed, KeyNotUnique
from pg_ingest_tests.destinations.warehouse import Warehouse

ROWS = [(number, str(number), float(number)) for number in range(10)]
PAIRS = pa.schema([("a", pa.string()), ("b", pa.int64()), ("v", pa.string())])
PAIR_BOUNDS = pa.schema([("a", pa.string()), ("b", pa.int64())])


def of_id(*bounds: int, open_start: bool = False, stored: int = 99) -> Ranges:
    batch = pa.RecordBatch.from_arrays([pa.array(bounds, pa.int64())], names=["id"])
    return Ranges(("id",), batch, open_start, stored)


def test_what_is_in_the_ranges_and_not_staged_goes(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), ROWS)
    before = warehouse.synced()
    changed = (2, "new", 2.0)
    report = warehouse.load(of_id(2, 4, 7, 9), [changed, ROWS[8]])
    assert report.counts == LoadCounts(inserted=0, updated=1, deleted=2, rejected=0, total=8)
    kept = [row for row in ROWS if row[0] not in (2, 3, 7)]
    assert warehouse.rows() == sorted([*kept, changed])
    after = warehouse.synced()
    assert {key for key in after if after[key] != before[key]} == {2}


@pytest.mark.parametrize(
    ("ranges", "gone"),
    [
        (of_id(), set()),
        (of_id(open_start=True), set(range(10))),
        (of_id(4, open_start=True), {0, 1, 2, 3}),
        (of_id(4), {4, 5, 6, 7, 8, 9}),
        (of_id(2, 8, open_start=True), {0, 1, 8, 9}),
        (of_id(2, 4, 8), {2, 3, 8, 9}),
        (of_id(100, 200), set()),
    ],
)
def test_ranges_without_an_end(warehouse: Warehouse, ranges: Ranges, gone: set[int]) -> None:
    warehouse.load(Everything(), ROWS)
    assert warehouse.load(ranges, []).counts == LoadCounts(0, 0, len(gone), 0, 10 - len(gone))
    assert warehouse.rows() == [row for row in ROWS if row[0] not in gone]


def test_new_rows_in_a_range(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), ROWS)
    report = warehouse.load(of_id(9), [*ROWS[9:], (10, "x", None), (11, "y", None)])
    assert report.counts == LoadCounts(inserted=2, updated=0, deleted=0, rejected=0, total=12)


def test_rows_outside_of_their_range_are_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), ROWS)
    with pytest.raises(DestinationFailed, match="other ranges here"):
        warehouse.load(of_id(2, 4), [(4, "stray", None)])
    assert warehouse.rows() == ROWS


def test_more_rows_than_the_source_had_are_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), ROWS)
    with pytest.raises(DestinationFailed, match="other ranges here") as caught:
        warehouse.load(of_id(2, 6, stored=3), [])
    assert "4 rows are stored there, 3 were read before" in caught.value.detail
    assert warehouse.rows() == ROWS


def test_a_key_that_is_not_unique_is_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), ROWS)
    with pytest.raises(KeyNotUnique):
        warehouse.load(of_id(2, 6), [(2, "a", None), (2, "b", None)])
    assert warehouse.rows() == ROWS


def test_a_table_that_is_gone_is_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), ROWS)
    warehouse.execute("DROP TABLE shop.orders")
    with pytest.raises(DestinationFailed, match="does not hold the rows"):
        warehouse.load(of_id(2, 6), [])


def test_other_databases_rows_in_a_shared_table_stay(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "w.duckdb")
    shared = Target("shop", "orders", shared=True)
    streams = [StreamId("shop", name, "public", "orders") for name in ("eu", "us")]
    for stream in streams:
        warehouse.load(Everything(), ROWS, stream=stream, target=shared)
    report = warehouse.load(of_id(2, 5), [ROWS[3]], stream=streams[0], target=shared)
    assert report.counts == LoadCounts(inserted=0, updated=0, deleted=2, rejected=0, total=8)
    counted = "SELECT _pgi_database, count(*) FROM shop.orders GROUP BY ALL ORDER BY ALL"
    assert warehouse.query(counted) == [("eu", 8), ("us", 10)]


@pytest.mark.parametrize("seed", range(3))
def test_pairs_of_text_and_number(warehouse: Warehouse, seed: int) -> None:
    chance = random.Random(seed)
    texts = ["", "A", "a", "ab", "B", "z", "é", "日本", "\U0001f600", "a b", "a!"]
    pairs = sorted({(chance.choice(texts), chance.randrange(6)) for _ in range(60)}, key=_bytes)
    rows: list[Any] = [(*pair, "old") for pair in pairs]
    bounds = sorted({chance.choice(pairs) for _ in range(9)}, key=_bytes)
    open_start = chance.random() < 0.5
    inside = {p for p in pairs if (sum(_bytes(b) <= _bytes(p) for b in bounds) % 2) != open_start}
    warehouse.load(Everything(), rows, schema=PAIRS)
    batch = pa.RecordBatch.from_pylist(
        [dict(zip("ab", b, strict=True)) for b in bounds], schema=PAIR_BOUNDS
    )
    staged = [(*p, "new") for p in sorted(inside) if chance.random() < 0.5]
    scope = Ranges(("a", "b"), batch, open_start, len(inside))
    counts = warehouse.load(scope, staged, schema=PAIRS).counts
    assert (counts.updated, counts.deleted) == (len(staged), len(inside) - len(staged))
    expected = [row for row in rows if row[:2] not in inside] + staged
    assert sorted(warehouse.rows()) == sorted(expected)


def _bytes(pair: tuple[str, int]) -> tuple[bytes, int]:
    return pair[0].encode(), pair[1]


def test_a_column_may_be_called_rowid(warehouse: Warehouse) -> None:
    schema = pa.schema([("rowid", pa.int64()), ("_k0", pa.int64()), ("v", pa.int64())])
    warehouse.load(Everything(), [(7, 1, 1), (8, 2, 1), (9, 3, 1)], schema=schema)
    bounds = pa.RecordBatch.from_arrays([pa.array([7, 9])] * 2, names=["rowid", "_k0"])
    scope = Ranges(("rowid", "_k0"), bounds, False, 2)
    assert warehouse.load(scope, [(8, 2, 5)], schema=schema).counts.deleted == 1
    scope = Ranges(("rowid", "_k0"), bounds, True, 3)
    report = warehouse.load(scope, [(9, 10, 5)], schema=schema)
    assert (report.counts.inserted, report.counts.deleted) == (1, 1)
