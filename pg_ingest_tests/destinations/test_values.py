"""Values arrive as they were sent, through the stage and through a comparison by key."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest

from pg_ingest.batch import LOGICAL_TYPE, Everything, Keys, Scope
from pg_ingest_tests.destinations.warehouse import Warehouse

TOP32, TOP64 = 2**31 - 1, 2**63 - 1

VALUES: list[tuple[pa.DataType, list[Any], str, list[str]]] = [
    (pa.bool_(), [True, False], "BOOLEAN", ["true", "false"]),
    (pa.int16(), [-(2**15), 7], "SMALLINT", ["-32768", "7"]),
    (pa.int64(), [-(2**63), TOP64], "BIGINT", [str(-(2**63)), str(TOP64)]),
    (pa.float64(), [float("inf"), float("nan"), -0.0], "DOUBLE", ["inf", "nan", "-0.0"]),
    (pa.string(), ["", "NULL", "é\n\t\\"], "VARCHAR", ["", "NULL", "é\n\t\\"]),
    (pa.binary(), [b"", b"\x00\xff"], "BLOB", ["", "\\x00\\xFF"]),
    (
        pa.decimal128(38, 10),
        [decimal.Decimal("-1.0000000001")],
        "DECIMAL(38,10)",
        ["-1.0000000001"],
    ),
    (
        pa.date32(),
        [TOP32, -TOP32, dt.date(1, 1, 1), -719_163],
        "DATE",
        ["infinity", "-infinity", "0001-01-01", "0001-12-31 (BC)"],
    ),
    (
        pa.timestamp("us"),
        [TOP64, -TOP64, -62_135_596_800_000_001],
        "TIMESTAMP",
        ["infinity", "-infinity", "0001-12-31 (BC) 23:59:59.999999"],
    ),
    (
        pa.timestamp("us", "UTC"),
        [TOP64, -TOP64, 1],
        "TIMESTAMP WITH TIME ZONE",
        ["infinity", "-infinity", "1970-01-01 00:00:00.000001+00"],
    ),
    (pa.time64("us"), [86_400_000_000, 0], "TIME", ["24:00:00", "00:00:00"]),
    (pa.list_(pa.string()), [["a", None, ""], []], "VARCHAR[]", ["[a, NULL, '']", "[]"]),
    (
        pa.month_day_nano_interval(),
        [(1, 0, 0), (0, 30, 0), (0, 0, 86_400_000_000_000)],
        "INTERVAL",
        ["1 month", "30 days", "24:00:00"],
    ),
]


@pytest.mark.parametrize("scope", [Everything(), Keys(("id",))], ids=["everything", "keys"])
@pytest.mark.parametrize(("kind", "values", "stored", "texts"), VALUES, ids=lambda v: str(v)[:20])
def test_values_are_stored_as_they_came(
    warehouse: Warehouse,
    kind: pa.DataType,
    values: list[Any],
    stored: str,
    texts: list[str],
    scope: Scope,
) -> None:
    schema = pa.schema([("id", pa.int32()), ("v", kind)])
    rows = [*enumerate(values), (len(values), None)]
    warehouse.load(scope, rows, schema=schema)
    assert warehouse.query("DESCRIBE shop.orders")[1][1] == stored
    found = warehouse.query("SET TimeZone = 'UTC'; SELECT v::VARCHAR FROM shop.orders ORDER BY id")
    assert [row[0] for row in found] == [*texts, None]
    assert not warehouse.load(scope, rows, schema=schema).counts.changed
    turned = [(i, v) for i, (_, v) in enumerate(reversed(rows))]
    moved = sum(a != b for a, b in zip([*texts, None], [None, *reversed(texts)], strict=True))
    report = warehouse.load(Keys(("id",)), turned, schema=schema)
    assert report.counts.updated == moved > 0


JSONS = [
    '{"a": 1, "a": 2}',
    '{"a": "\\u0000"}',
    '"\\ud800"',
    "1e999999",
    "[" * 3000 + "]" * 3000,
    "9" * 400,
    '  {"spaces" :   1}',
    "",
]


@pytest.mark.parametrize("scope", [Everything(), Keys(("id",))], ids=["everything", "keys"])
def test_json_keeps_its_text_even_where_duckdb_would_refuse_it(
    warehouse: Warehouse, scope: Scope
) -> None:
    schema = pa.schema(
        [
            pa.field("id", pa.int32()),
            pa.field("v", pa.string(), metadata={LOGICAL_TYPE: b"json"}),
        ]
    )
    rows = [*enumerate(JSONS), (len(JSONS), None)]
    warehouse.load(scope, [(0, None)], schema=schema)
    warehouse.load(scope, rows, schema=schema)
    assert warehouse.query("DESCRIBE shop.orders")[1][1] == "JSON"
    assert warehouse.rows() == rows
    assert warehouse.query("SELECT v ->> 'spaces' FROM shop.orders WHERE id = 6") == [("1",)]
    assert not warehouse.load(scope, rows, schema=schema).counts.changed


def test_uuid_becomes_uuid(warehouse: Warehouse) -> None:
    field = pa.field("v", pa.string(), metadata={LOGICAL_TYPE: b"uuid"})
    text = "5b0a3f2e-0f0f-4f1c-9f51-6dd1f8f4f2b1"
    warehouse.load(Everything(), [(text,), (None,)], schema=pa.schema([field]))
    assert warehouse.query("DESCRIBE shop.orders")[0][1] == "UUID"
    assert warehouse.query("SELECT v::VARCHAR FROM shop.orders ORDER BY ALL") == [(text,), (None,)]
