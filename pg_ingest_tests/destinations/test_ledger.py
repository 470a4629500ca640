"""The `_pgi` schema: bookmarks, loads, rejected rows."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pg_ingest.batch import Everything, Keys
from pg_ingest.bookmark import KeyBasedBookmark, PendingKey
from pg_ingest.destinations.destination import Target
from pg_ingest.errors import BookmarkUnusable, TooManyRejected
from pg_ingest_tests.destinations.warehouse import (
    BOOKMARK,
    STREAM,
    TARGET,
    Warehouse,
    batch,
    rejecting,
)

A, B = (1, "a", 1.5), (2, None, None)
KEY_BASED = KeyBasedBookmark("id", "bigint", "7", (PendingKey("9", ("3/15",), 800),))


def test_reading_makes_no_file(warehouse: Warehouse) -> None:
    assert warehouse.destination.bookmark(STREAM) is None
    assert warehouse.destination.status() == []
    assert not warehouse.path.parent.exists()


def test_a_file_of_somebody_else_has_no_bookmarks(warehouse: Warehouse) -> None:
    warehouse.path.parent.mkdir()
    warehouse.execute("CREATE TABLE mine AS SELECT 1 AS a")
    assert warehouse.destination.bookmark(STREAM) is None
    assert warehouse.destination.status() == []
    assert warehouse.tables() == ["main.mine"]


def test_a_bookmark_comes_back_as_it_went(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [A], bookmark=KEY_BASED, method="key_based")
    assert warehouse.destination.bookmark(STREAM) == KEY_BASED
    assert warehouse.destination.bookmark(replace(STREAM, database="us")) is None
    warehouse.load(Keys(("id",)), [B], bookmark=None)
    assert warehouse.destination.bookmark(STREAM) == KEY_BASED


def test_a_load_without_a_bookmark_still_owns_its_table(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A], bookmark=None)
    assert warehouse.destination.bookmark(STREAM) is None
    assert warehouse.destination.status() == []
    warehouse.load(Everything(), [B], bookmark=BOOKMARK)
    assert warehouse.rows() == [B]


def test_a_bookmark_that_cannot_be_read_is_an_error(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    warehouse.execute("UPDATE _pgi.bookmarks SET bookmark = '{}'")
    with pytest.raises(BookmarkUnusable):
        warehouse.destination.bookmark(STREAM)


def test_a_load_is_reported(warehouse: Warehouse) -> None:
    started = time.time() - 5
    report = warehouse.load_batches(
        Everything(),
        iter([batch([A, B]), rejecting(1)]),
        started_at=started,
        position_from="1",
        position_to="2",
        notes=("mind the gap",),
        run_id="r1",
    )
    assert (report.rows_read, report.bytes_read, report.counts.rejected) == (3, 30, 1)
    assert 5 <= report.duration_s < 60
    assert report.extra == {"load_id": 1}
    assert report.notes == (
        "mind the gap",
        "1 row was set aside in _pgi.rejected, not stored: price: too large (1 ×)",
    )
    found = warehouse.query(
        'SELECT id, run_id, source, "database", "schema", "table", target, method, phase,'
        " epoch(started_at), duration_s, rows_read, bytes_read, inserted, updated, deleted,"
        " rejected, total, position_from, position_to, notes FROM _pgi.loads"
    )
    assert found == [
        (
            *(1, "r1", "shop", "eu", "public", "orders", "shop.orders", "full_table", "snapshot"),
            *(pytest.approx(started, abs=0.001), report.duration_s, 3, 30, 2, 0, 0),
            *(1, 2, "1", "2", list(report.notes)),
        )
    ]


def test_what_the_reader_counted_goes_before_what_the_stage_counted(warehouse: Warehouse) -> None:
    report = warehouse.load(Everything(), [A], rows_read=7, bytes_read=700)
    assert (report.rows_read, report.bytes_read) == (7, 700)


def test_status_shows_the_newest_load_of_each_stream_in_order(warehouse: Warehouse) -> None:
    other = replace(STREAM, table="lines")
    comment = Target("shop", "orders", comment="all orders")
    warehouse.load(Everything(), [A], target=comment)
    warehouse.load(Everything(), [A, B], target=comment, position_to="later")
    warehouse.load(Everything(), [], stream=other, target=Target("shop", "lines"))
    lines, orders = warehouse.destination.status()
    assert (lines.stream, lines.rows, orders.stream, orders.rows) == (other, 0, STREAM, 2)
    assert orders.target == comment
    assert orders.bookmark == BOOKMARK
    assert orders.last_load["position_to"] == "later"
    assert orders.last_load["inserted"] == 2
    assert orders.updated_at.endswith("Z")
    assert orders.last_load["started_at"] <= orders.updated_at


def test_status_outlives_a_dropped_table_and_emptied_loads(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    warehouse.execute("DROP TABLE shop.orders; DELETE FROM _pgi.loads")
    (only,) = warehouse.destination.status()
    assert (only.target, only.last_load) == (TARGET, {})


def test_rejected_rows_stand_once_and_go_with_a_full_load(warehouse: Warehouse) -> None:
    rejected = 'SELECT load_id, "column", reason, "row" FROM _pgi.rejected ORDER BY ALL'
    for _ in range(2):
        warehouse.load_batches(Keys(("id",)), iter([batch([A]), rejecting(2), rejecting(1)]))
    assert warehouse.query(rejected) == [
        (2, "price", "too large", '{"id": "0"}'),
        (2, "price", "too large", '{"id": "0"}'),
        (2, "price", "too large", '{"id": "1"}'),
    ]
    other = replace(STREAM, table="lines")
    warehouse.load_batches(
        Everything(), iter([rejecting(1)]), stream=other, target=Target("shop", "lines")
    )
    warehouse.load(Everything(), [A])
    assert warehouse.query(rejected) == [(3, "price", "too large", '{"id": "0"}')]


def test_more_rejected_rows_than_allowed_leave_nothing(warehouse: Warehouse) -> None:
    warehouse.load_batches(Everything(), iter([rejecting(10)]), max_rejected=10)
    before = warehouse.query("SELECT count(*) FROM _pgi.rejected")
    with pytest.raises(TooManyRejected, match="11 rows cannot be stored") as caught:
        warehouse.load_batches(
            Everything(), iter([batch([A]), rejecting(10), rejecting(1)]), max_rejected=10
        )
    assert "price: too large (11 ×)" in caught.value.detail
    assert warehouse.query("SELECT count(*) FROM _pgi.rejected") == before
    assert warehouse.rows() == []


def test_gaps_has_its_place(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    assert warehouse.query("FROM _pgi.gaps") == []
