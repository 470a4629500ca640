"""Which stored rows give way to the staged ones, and what is counted."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from pg_ingest.batch import SYSTEM, AllKeys, Everything, Keys, LoadCounts, Window
from pg_ingest.bookmark import FullTableBookmark
from pg_ingest.errors import DestinationFailed, KeyNotUnique
from pg_ingest_tests.destinations.warehouse import SCHEMA, STREAM, Warehouse

A, B, C = (1, "a", 1.5), (2, None, None), (3, "c", 3.0)


def test_everything_makes_the_table_with_its_time_of_change_last(warehouse: Warehouse) -> None:
    report = warehouse.load(Everything(), [A, B])
    assert report.counts == LoadCounts(inserted=2, updated=0, deleted=0, rejected=0, total=2)
    assert warehouse.rows() == [A, B]
    assert warehouse.query("DESCRIBE shop.orders")[-1][:2] == (
        "_pgi_synced_at",
        "TIMESTAMP WITH TIME ZONE",
    )
    assert warehouse.query("SELECT count(*) FROM shop.orders WHERE _pgi_synced_at IS NULL") == [
        (0,)
    ]


def test_everything_replaces_all_rows(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A, B])
    report = warehouse.load(Everything(), [C])
    assert report.counts == LoadCounts(inserted=1, updated=0, deleted=2, rejected=0, total=1)
    assert warehouse.rows() == [C]


def test_everything_again_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A, B, B])
    before = warehouse.query("SELECT *, _pgi_synced_at::VARCHAR FROM shop.orders ORDER BY ALL")
    newer = FullTableBookmark("0/2", "2026-01-02T00:00:00Z")
    report = warehouse.load(Everything(), [B, A, B], bookmark=newer)
    assert not report.counts.changed
    assert report.counts.total == 3
    after = warehouse.query("SELECT *, _pgi_synced_at::VARCHAR FROM shop.orders ORDER BY ALL")
    assert after == before
    assert warehouse.destination.bookmark(STREAM) == newer


@pytest.mark.parametrize(
    "rows",
    [
        [A, A, B],
        [(1, None, 1.5), (2, "a", None), B],
        [(1, "a", 1.5), (2, None, -0.0), B],
        [(1, "a", 1.5), (2, None, math.nan), B],
        [(1, "", 1.5), B, B],
    ],
)
def test_a_small_difference_is_seen(warehouse: Warehouse, rows: list[Any]) -> None:
    warehouse.load(Everything(), [A, (2, None, 0.0), B])
    assert warehouse.load(Everything(), rows).counts.changed
    assert warehouse.load(Everything(), rows[::-1]).counts.changed is False


def test_an_empty_table_is_a_table(warehouse: Warehouse) -> None:
    assert warehouse.load(Everything(), []).counts == LoadCounts(0, 0, 0, 0, 0)
    assert warehouse.rows() == []
    warehouse.load(Everything(), [A])
    report = warehouse.load(Everything(), [])
    assert report.counts == LoadCounts(inserted=0, updated=0, deleted=1, rejected=0, total=0)


def test_no_batch_at_all_is_an_empty_table(warehouse: Warehouse) -> None:
    report = warehouse.load_batches(Everything(), iter([]))
    assert report.counts == LoadCounts(0, 0, 0, 0, 0)
    assert warehouse.rows() == []


def test_a_window_replaces_its_own_rows_only(warehouse: Warehouse) -> None:
    rows = [(n, None, float(n)) for n in range(5)]
    warehouse.load(Everything(), rows)
    report = warehouse.load(Window("id", "1", "3"), [(2, "new", 2.0)])
    assert report.counts == LoadCounts(inserted=1, updated=0, deleted=2, rejected=0, total=4)
    assert warehouse.rows() == [rows[0], (2, "new", 2.0), rows[3], rows[4]]


def test_a_window_again_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A, B, C])
    before = warehouse.synced()
    assert not warehouse.load(Window("id", "2", "4"), [C, B]).counts.changed
    assert warehouse.synced() == before


def test_a_window_of_days_in_utc(warehouse: Warehouse) -> None:
    schema = pa.schema([("at", pa.timestamp("us", "UTC"))])
    day = 86_400_000_000
    warehouse.load(Everything(), [(0,), (day - 1,), (day,), (None,)], schema=schema)
    window = Window("at", "1970-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00")
    report = warehouse.load(window, [(5,)], schema=schema)
    assert report.counts == LoadCounts(inserted=1, updated=0, deleted=2, rejected=0, total=3)
    stored = warehouse.query('SELECT epoch_us("at") FROM shop.orders ORDER BY ALL NULLS LAST')
    assert stored == [(5,), (day,), (None,)]


@pytest.mark.parametrize("stray", [0, 3, None])
def test_a_row_outside_of_its_window_is_refused(warehouse: Warehouse, stray: int | None) -> None:
    warehouse.load(Everything(), [A])
    with pytest.raises(DestinationFailed, match="outside of the window"):
        warehouse.load(Window("id", "1", "3"), [(stray, None, None)])
    assert warehouse.rows() == [A]


def test_keys_insert_replace_and_leave_alone(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [A, B])
    before = warehouse.synced()
    changed = (2, "b", None)
    report = warehouse.load(Keys(("id",)), [A, changed, C])
    assert report.counts == LoadCounts(inserted=1, updated=1, deleted=0, rejected=0, total=3)
    assert warehouse.rows() == [A, changed, C]
    after = warehouse.synced()
    assert after[1] == before[1]
    assert after[2] == after[3] > before[2]


def test_keys_again_change_nothing(warehouse: Warehouse) -> None:
    rows = [A, B, (4, "nan", math.nan), (5, "", -0.0)]
    warehouse.load(Keys(("id",)), rows)
    before = warehouse.synced()
    assert not warehouse.load(Keys(("id",)), rows[::-1]).counts.changed
    assert warehouse.synced() == before


def test_keys_see_the_sign_of_zero(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [(1, "zero", 0.0)])
    assert warehouse.load(Keys(("id",)), [(1, "zero", -0.0)]).counts.updated == 1
    assert math.copysign(1.0, warehouse.rows()[0][2]) == -1.0


def test_null_keys_are_equal(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id", "name")), [(None, "x", 1.0), (None, None, 2.0), (1, None, 3.0)])
    report = warehouse.load(Keys(("id", "name")), [(None, None, 9.0), (1, None, 3.0)])
    assert report.counts == LoadCounts(inserted=0, updated=1, deleted=0, rejected=0, total=3)
    assert warehouse.rows() == [(None, None, 9.0), (None, "x", 1.0), (1, None, 3.0)]


@pytest.mark.parametrize("twin", [(7, "secret", 2.0), (None, "secret", 2.0)])
def test_a_key_that_is_not_unique_is_refused(warehouse: Warehouse, twin: tuple[Any, ...]) -> None:
    warehouse.load(Keys(("id",)), [A])
    with pytest.raises(KeyNotUnique) as caught:
        warehouse.load(Keys(("id",)), [twin, (twin[0], "other", 1.0), C])
    assert "(id) of shop.orders" in caught.value.message
    assert "1 key values occur more than once among 3 rows" in caught.value.detail
    assert "secret" not in str(caught.value)
    assert warehouse.rows() == [A]
    assert warehouse.query("SELECT count(*) FROM _pgi.loads") == [(1,)]


def test_a_key_that_was_not_read_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(DestinationFailed, match="missing is not among the columns"):
        warehouse.load(Keys(("missing",)), [A])


def test_a_column_may_be_called_rowid(warehouse: Warehouse) -> None:
    schema = pa.schema([("rowid", pa.int64()), ("v", pa.int64())])
    warehouse.load(Keys(("rowid",)), [(7, 1), (8, 2)], schema=schema)
    assert warehouse.load(Keys(("rowid",)), [(7, 5), (8, 2)], schema=schema).counts.updated == 1
    assert warehouse.rows() == [(7, 5), (8, 2)]


def test_names_need_no_manners(warehouse: Warehouse) -> None:
    schema = pa.schema([('a"b; drop', pa.int64()), ("{x} ?", pa.int64()), ("select", pa.int64())])
    keys = Keys(('a"b; drop', "{x} ?"))
    warehouse.load(keys, [(1, 1, 1)], schema=schema)
    assert warehouse.load(keys, [(1, 1, 2), (1, 2, 3)], schema=schema).counts.updated == 1
    assert warehouse.rows() == [(1, 1, 2), (1, 2, 3)]


LISTING = SCHEMA.append(pa.field("_pgi_listed", pa.bool_(), metadata={SYSTEM: b"control"}))


def test_all_keys_takes_away_what_is_not_named(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A, B, C])
    told = [(2, "b", 2.0, False), (3, None, None, True), (4, "d", 4.0, False)]
    report = warehouse.load(AllKeys(("id",)), told, schema=LISTING)
    assert report.counts == LoadCounts(inserted=1, updated=1, deleted=1, rejected=0, total=3)
    assert warehouse.rows() == [(2, "b", 2.0), C, (4, "d", 4.0)]
    assert warehouse.load(AllKeys(("id",)), [], schema=LISTING).counts.deleted == 3


def test_all_keys_refuses_a_key_that_is_named_twice(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A, B])
    told = [(1, "a", 1.5, False), (1, None, None, True)]
    with pytest.raises(KeyNotUnique):
        warehouse.load(AllKeys(("id",)), told, schema=LISTING)
    assert warehouse.rows() == [A, B]


def test_all_keys_needs_the_table(warehouse: Warehouse) -> None:
    with pytest.raises(DestinationFailed, match="is not there"):
        warehouse.load(AllKeys(("id",)), [], schema=LISTING)
