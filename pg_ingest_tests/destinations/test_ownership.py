"""Names that cannot be used, and tables that are not ours."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from pg_ingest.batch import Everything, Keys, Window
from pg_ingest.destinations.destination import Target
from pg_ingest.errors import DestinationFailed
from pg_ingest_tests.destinations.warehouse import STREAM, TARGET, Warehouse

A, B = (1, "a", 1.5), (2, None, None)


@pytest.mark.parametrize("made", ["TABLE", "VIEW"])
def test_what_somebody_else_made_is_never_overwritten(warehouse: Warehouse, made: str) -> None:
    warehouse.path.parent.mkdir()
    warehouse.execute(f"CREATE SCHEMA shop; CREATE {made} shop.Orders AS SELECT 42 AS mine")
    with pytest.raises(DestinationFailed, match="was not made by pg_ingest") as caught:
        warehouse.load(Everything(), [A])
    assert made.lower() in caught.value.detail
    assert warehouse.query("FROM shop.orders") == [(42,)]
    assert warehouse.tables() == (["shop.Orders"] if made == "TABLE" else [])


def test_names_that_differ_only_by_case_are_refused(warehouse: Warehouse) -> None:
    schema = pa.schema([("Id", pa.int32()), ("iD", pa.int32()), ("x", pa.int32())])
    with pytest.raises(DestinationFailed, match="differ only by case: Id, iD") as caught:
        warehouse.load(Everything(), [(1, 2, 3)], schema=schema)
    assert "exclude_columns" in caught.value.hint
    assert warehouse.destination.status() == []


def test_letters_beyond_ascii_have_a_case_of_their_own(warehouse: Warehouse) -> None:
    schema = pa.schema([("Ä", pa.int32()), ("ä", pa.int32())])
    warehouse.load(Everything(), [(1, 2)], schema=schema)
    assert warehouse.query('SELECT "Ä", "ä" FROM shop.orders') == [(1, 2)]


@pytest.mark.parametrize("name", ["_pgi_synced_at", "_PGI_mine"])
def test_system_names_are_refused(warehouse: Warehouse, name: str) -> None:
    with pytest.raises(DestinationFailed, match=f"only this program may have: {name}"):
        warehouse.load(Everything(), [(1,)], schema=pa.schema([(name, pa.int32())]))


def test_a_table_without_columns_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(DestinationFailed, match="would have no columns"):
        warehouse.load_batches(Everything(), iter([]), schema=pa.schema([]))


def test_the_case_of_a_target_does_not_matter(warehouse: Warehouse) -> None:
    warehouse.load(Keys(("id",)), [A], target=Target("Shop", "Orders"))
    warehouse.load(Keys(("id",)), [B], target=Target("shop", "ORDERS"))
    assert warehouse.rows() == [A, B]


def test_changes_without_the_rows_before_them_are_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    warehouse.execute("DROP TABLE shop.orders")
    with pytest.raises(DestinationFailed, match="does not hold the rows") as caught:
        warehouse.load(Keys(("id",)), [B])
    assert "reset" in caught.value.hint
    report = warehouse.load(Window("id", "2", "3"), [B])
    assert "shop.orders was gone: it holds only the rows of this load" in report.notes
    assert warehouse.rows() == [B]


def test_a_stream_that_moves_takes_all_rows_or_is_refused(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    elsewhere = replace(TARGET, table="elsewhere")
    with pytest.raises(DestinationFailed, match="does not hold the rows"):
        warehouse.load(Keys(("id",)), [B], target=elsewhere)
    report = warehouse.load(Everything(), [A, B], target=elsewhere)
    assert "the rows loaded before stay in shop.orders" in report.notes
    assert warehouse.rows("shop.elsewhere") == [A, B]
    assert warehouse.rows() == [A]
    assert [status.target for status in warehouse.destination.status()] == [elsewhere]


def test_two_tables_of_one_source_do_not_meet(warehouse: Warehouse) -> None:
    warehouse.load(Everything(), [A])
    other = replace(STREAM, table="lines")
    with pytest.raises(DestinationFailed, match="belongs to another stream"):
        warehouse.load(Everything(), [B], stream=other)
    warehouse.load(Everything(), [B], stream=other, target=Target("shop", "lines"))
    assert (warehouse.rows(), warehouse.rows("shop.lines")) == ([A], [B])
