"""Several databases in one table, told apart by `_pgi_database`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from pg_ingest.batch import SYSTEM, Everything, Joined, Keys, LoadCounts, Scope, Window
from pg_ingest.destinations.destination import Target
from pg_ingest.errors import DestinationFailed
from pg_ingest_tests.destinations.warehouse import SCHEMA, STREAM, TARGET, Warehouse

SHARED = replace(TARGET, shared=True)
US = replace(STREAM, database="us")
A, B, C = (1, "a", 1.5), (2, None, None), (3, "c", 3.0)


def both(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A, B], target=SHARED)
    warehouse.load(Everything(), [A, C], target=SHARED, stream=US)


@pytest.mark.parametrize(
    ("scope", "rows", "left"),
    [
        (Everything(), [C], [(*C, "eu")]),
        (Keys(("id",)), [(1, "n", 0.0)], [(1, "n", 0.0, "eu"), (*B, "eu")]),
        (Window("id", "1", "2"), [(1, "n", 0.0)], [(1, "n", 0.0, "eu"), (*B, "eu")]),
    ],
)
def test_a_scope_keeps_to_its_own_database(
    warehouse: Warehouse, scope: Scope, rows: list[tuple[object, ...]], left: list[object]
) -> None:
    both(warehouse)
    report = warehouse.load(scope, rows, target=SHARED)
    stored = warehouse.rows()
    assert [row for row in stored if row[3] == "us"] == [(*A, "us"), (*C, "us")]
    assert [row for row in stored if row[3] == "eu"] == left
    assert report.counts.total == len(left)
    assert not warehouse.load(scope, rows, target=SHARED).counts.changed


def test_a_mark_keeps_to_its_own_database(warehouse: Warehouse) -> None:
    both(warehouse)
    marks = "SELECT _pgi_database, id, _pgi_lsn FROM shop.orders ORDER BY ALL"
    report = warehouse.load(Joined(Keys(("id",)), "_pgi_lsn", 7), [C], target=SHARED)
    assert report.counts == LoadCounts(inserted=1, updated=0, deleted=0, rejected=0, total=3)
    ours = [("eu", 1, 7), ("eu", 2, 7), ("eu", 3, 7)]
    assert warehouse.query(marks) == [*ours, ("us", 1, None), ("us", 3, None)]
    scope = Joined(Keys(("id",)), "_pgi_lsn", 1 << 62)
    warehouse.load(scope, [], target=SHARED, stream=US)
    assert warehouse.query(marks) == [*ours, ("us", 1, 1 << 62), ("us", 3, 1 << 62)]


def test_a_mark_is_no_default(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    warehouse.load(Joined(Keys(("id",)), "_pgi_lsn", 7), [B])
    warehouse.load(Keys(("id",)), [C])
    marks = warehouse.query("SELECT id, _pgi_lsn FROM shop.orders ORDER BY ALL")
    assert marks == [(1, 7), (2, 7), (3, None)]


def test_system_columns_come_last(warehouse: Warehouse) -> None:
    both(warehouse)
    names = [row[0] for row in warehouse.query("DESCRIBE shop.orders")]
    assert names == ["id", "name", "price", "_pgi_database", "_pgi_synced_at"]


def test_the_same_key_in_two_databases_is_two_rows(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [A], target=SHARED)
    report = warehouse.load(Keys(("id",)), [A], target=SHARED, stream=US)
    assert report.counts == LoadCounts(inserted=1, updated=0, deleted=0, rejected=0, total=1)
    assert [(s.stream.database, s.rows) for s in warehouse.destination.status()] == [
        ("eu", 1),
        ("us", 1),
    ]


def test_a_table_becomes_shared_and_stays_it(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [A, B])
    report = warehouse.load(Keys(("id",)), [A], target=SHARED, stream=US)
    assert "shop.orders is shared from now on: column _pgi_database added" in report.notes
    assert warehouse.load(Keys(("id",)), [A, B], target=SHARED).counts.changed is False
    assert warehouse.query("SELECT id, _pgi_database FROM shop.orders ORDER BY ALL") == [
        (1, "eu"),
        (1, "us"),
        (2, "eu"),
    ]


def test_a_table_that_was_shared_still_names_the_database(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [A], target=SHARED)
    warehouse.load(Keys(("id",)), [B], target=TARGET)
    assert warehouse.load(Keys(("id",)), [A, B], target=TARGET).counts.changed is False
    assert warehouse.rows() == [(*A, "eu"), (*B, "eu")]


def test_another_streams_table_is_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    with pytest.raises(
        DestinationFailed, match=r"shop\.orders belongs to another stream"
    ) as caught:
        warehouse.load(Everything(), [C], stream=US)
    assert "shop/eu/public.orders writes to it" in caught.value.detail
    assert warehouse.rows() == [A]


FROM_LOG = SCHEMA.append(pa.field("_pgi_lsn", pa.int64(), metadata={SYSTEM: b""})).append(
    pa.field("_pgi_deleted_at", pa.timestamp("us", "UTC"), metadata={SYSTEM: b""})
)


@pytest.mark.parametrize("rows", [[A], [A, B], []])
def test_a_table_that_others_write_to_is_followed_by_the_log_from_now_on(
    warehouse: Warehouse, rows: list[tuple[object, ...]]
) -> None:
    both(warehouse)
    staged = [(*row, 7, None) for row in rows]
    warehouse.load(Everything(), staged, target=SHARED, schema=FROM_LOG)
    assert sorted(warehouse.query("SELECT id, _pgi_database FROM shop.orders")) == sorted(
        [*((row[0], "eu") for row in rows), (1, "us"), (3, "us")]
    )


@pytest.mark.parametrize("target", [SHARED, TARGET], ids=["shared", "alone"])
def test_a_row_that_is_marked_as_deleted_and_came_back_is_not_the_row_that_is_stored(
    warehouse: Warehouse, target: Target
) -> None:
    marked = datetime(2026, 1, 1, tzinfo=UTC)
    warehouse.load(Everything(), [(*A, 7, None), (*B, 7, marked)], target=target, schema=FROM_LOG)
    if target.shared:
        warehouse.load(Everything(), [(*A, 7, None)], target=target, stream=US, schema=FROM_LOG)
    report = warehouse.load(
        Everything(), [(*A, 9, None), (*B, 9, None)], target=target, schema=FROM_LOG
    )
    assert report.counts.changed
    assert warehouse.query(
        "SELECT count(*) FROM shop.orders WHERE _pgi_deleted_at IS NOT NULL"
    ) == [(0,)]
