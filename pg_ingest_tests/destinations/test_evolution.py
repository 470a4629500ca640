"""The stored table follows the source's columns and comments."""

from __future__ import annotations

import decimal
from typing import Any

import pyarrow as pa
import pytest

from pg_ingest.batch import COMMENT, LOGICAL_TYPE, Everything, Keys, Scope, Window
from pg_ingest.destinations.destination import Target
from pg_ingest.errors import DestinationFailed
from pg_ingest_tests.destinations.warehouse import Warehouse

KEYS = Keys(("id",))
NARROW = pa.schema([("id", pa.int32()), ("v", pa.string())])


def one(kind: pa.DataType, logical: bytes | None = None) -> pa.Schema:
    metadata = {LOGICAL_TYPE: logical} if logical else None
    return pa.schema([pa.field("id", pa.int32()), pa.field("v", kind, metadata=metadata)])


@pytest.mark.parametrize("scope", [KEYS, Window("id", "2", "3")])
def test_a_new_column_is_added(warehouse: Warehouse, scope: Scope) -> None:
    warehouse.load(KEYS, [(1, "a")], schema=NARROW)
    wide = NARROW.append(pa.field("more", pa.int16()))
    report = warehouse.load(scope, [(2, "b", 7)], schema=wide)
    assert "column more (SMALLINT) added, NULL in the rows that were there" in report.notes
    assert warehouse.query("SELECT id, v, more FROM shop.orders ORDER BY id") == [
        (1, "a", None),
        (2, "b", 7),
    ]


def test_a_column_that_is_gone_keeps_its_values(warehouse: Warehouse) -> None:
    warehouse.load(KEYS, [(1, "a"), (2, "b")], schema=NARROW)
    other = pa.schema([("id", pa.int32()), ("w", pa.string())])
    report = warehouse.load(KEYS, [(2, "x"), (3, "y")], schema=other)
    assert "no longer at the source, kept here: v" in report.notes
    assert (report.counts.updated, report.counts.inserted) == (1, 1)
    assert warehouse.query("SELECT id, v, w FROM shop.orders ORDER BY id") == [
        (1, "a", None),
        (2, "b", "x"),
        (3, None, "y"),
    ]
    assert not warehouse.load(KEYS, [(2, "x"), (3, "y")], schema=other).counts.changed


WIDENED: list[tuple[pa.DataType, Any, pa.DataType, Any, str]] = [
    (pa.int16(), 5, pa.int64(), 2**40, "BIGINT"),
    (pa.int32(), 5, pa.decimal128(12, 2), decimal.Decimal("1.25"), "DECIMAL(12,2)"),
    (pa.int32(), 5, pa.float64(), 0.5, "DOUBLE"),
    (pa.int64(), 5, pa.string(), "x", "VARCHAR"),
    (pa.bool_(), True, pa.string(), "x", "VARCHAR"),
    (pa.float32(), 0.5, pa.float64(), 1e300, "DOUBLE"),
    (pa.uint32(), 2**31, pa.int64(), 2**40, "BIGINT"),
    (pa.decimal128(5, 2), decimal.Decimal("1.50"), pa.decimal128(8, 3), decimal.Decimal("2"), ""),
    (pa.decimal128(5, 2), decimal.Decimal("1.50"), pa.string(), "1e400", "VARCHAR"),
    (pa.date32(), 10, pa.timestamp("us"), 5, "TIMESTAMP"),
    (pa.timestamp("us", "UTC"), 10, pa.string(), "x", "VARCHAR"),
]


@pytest.mark.parametrize(("old", "before", "new", "after", "stored"), WIDENED, ids=str)
def test_a_type_is_widened(
    warehouse: Warehouse, old: pa.DataType, before: Any, new: pa.DataType, after: Any, stored: str
) -> None:
    warehouse.load(KEYS, [(1, before), (2, None)], schema=one(old))
    text = warehouse.query("SELECT v::VARCHAR FROM shop.orders WHERE id = 1")
    report = warehouse.load(KEYS, [(3, after)], schema=one(new))
    assert any("column v widened from" in note for note in report.notes)
    assert warehouse.query("DESCRIBE shop.orders")[1][1] == (stored or "DECIMAL(8,3)")
    if stored == "VARCHAR":
        assert warehouse.query("SELECT v FROM shop.orders WHERE id = 1") == text
    assert warehouse.load(KEYS, [(3, after)], schema=one(new)).counts.changed is False


def test_infinity_survives_the_way_from_date_to_timestamp(warehouse: Warehouse) -> None:
    top = 2**31 - 1
    warehouse.load(KEYS, [(1, top), (2, -top)], schema=one(pa.date32()))
    warehouse.load(KEYS, [(3, 0)], schema=one(pa.timestamp("us")))
    assert warehouse.query("SELECT v::VARCHAR FROM shop.orders ORDER BY id") == [
        ("infinity",),
        ("-infinity",),
        ("1970-01-01 00:00:00",),
    ]


REFUSED: list[tuple[pa.DataType, Any, pa.DataType, Any]] = [
    (pa.int64(), 5, pa.int32(), 6),
    (pa.int64(), 5, pa.float64(), 6.0),
    (pa.string(), "x", pa.int32(), 6),
    (pa.decimal128(8, 3), 5, pa.decimal128(8, 4), 6),
    (pa.timestamp("us"), 5, pa.timestamp("us", "UTC"), 6),
    (pa.timestamp("us"), 5, pa.date32(), 6),
    (pa.binary(), b"x", pa.string(), "y"),
    (pa.list_(pa.int32()), [1], pa.string(), "{1}"),
]


@pytest.mark.parametrize(("old", "before", "new", "after"), REFUSED, ids=str)
def test_any_other_change_of_type_is_refused_and_changes_nothing(
    warehouse: Warehouse, old: pa.DataType, before: Any, new: pa.DataType, after: Any
) -> None:
    warehouse.load(KEYS, [(1, before)], schema=one(old))
    stored = warehouse.rows()
    wide = one(new).append(pa.field("added", pa.int32()))
    with pytest.raises(DestinationFailed, match="cannot follow a change of type") as caught:
        warehouse.load(KEYS, [(2, after, 1)], schema=wide)
    assert "v: " in caught.value.detail
    assert "reset" in caught.value.hint
    assert warehouse.rows() == stored


def test_everything_takes_any_change(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [(1, "a")], schema=NARROW)
    warehouse.load(Everything(), [(b"x",)], schema=pa.schema([("other", pa.binary())]))
    assert warehouse.rows() == [(b"x",)]


def test_the_order_of_columns_follows_the_source(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [(1, "a")], schema=NARROW)
    turned = pa.schema([NARROW.field(1), NARROW.field(0)])
    warehouse.load(Everything(), [("a", 1)], schema=turned)
    assert warehouse.rows() == [("a", 1)]


def test_comments_travel_and_follow(warehouse: Warehouse) -> None:
    def schema(comment: str | None) -> pa.Schema:
        metadata = {COMMENT: comment.encode()} if comment else None
        return pa.schema([pa.field("ID", pa.int32(), metadata=metadata)])

    for comment, table in [("it's", "the table's"), ("Größe", None), (None, "again")]:
        for scope in (Everything(), Keys(("ID",))):
            warehouse.load(
                scope, [(1,)], schema=schema(comment), target=Target("shop", "orders", False, table)
            )
            assert warehouse.query(
                "SELECT comment FROM duckdb_columns() WHERE table_name = 'orders' LIMIT 1"
            ) == [(comment,)]
            assert warehouse.query(
                "SELECT comment FROM duckdb_tables() WHERE table_name = 'orders'"
            ) == [(table,)]


def test_a_view_on_the_table_outlives_its_replacement(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [(1, "a")], schema=NARROW)
    warehouse.execute("CREATE VIEW mine AS SELECT id, v FROM shop.orders")
    warehouse.load(Everything(), [(2, "b")], schema=NARROW)
    assert warehouse.query("FROM mine") == [(2, "b")]
