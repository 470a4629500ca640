"""Several databases in one table, told apart by `_pgi_database`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pg_ingest.batch import Everything, Keys, LoadCounts, Scope, Window
from pg_ingest.errors import DestinationFailed
from pg_ingest_tests.destinations.warehouse import STREAM, TARGET, Warehouse

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
