from __future__ import annotations

import json

import pyarrow as pa

from pg_ingest.batch import REJECTED_SCHEMA
from pg_ingest.decode.types import arrow_schema
from pg_ingest.decode.values import decode_batch, decode_column
from pg_ingest_tests.decode.making import TEXT_LAYOUTS, column, decode, numeric, reasons

TEXTS = [
    None,
    "",
    "NULL",
    "\\N",
    " ",
    "\r\n",
    "\x01\x1f\x7f",
    '"quoted"',
    "é😀\u2028",
    "x" * 100_000,
]


def test_text_is_untouched() -> None:
    for name in ("text", "varchar", "bpchar", "xml", "interval", "timetz", "money", "inet"):
        assert decode(TEXTS, name).values.to_pylist() == TEXTS


def test_unknown_types_are_text() -> None:
    assert decode_column(pa.array(["(1,2)"]), column("geometry")).values.to_pylist() == ["(1,2)"]


def test_bytea() -> None:
    decoded = decode(["\\x", "\\x00ff41", None, "\\x" + "00" * 100_000], "bytea")
    assert decoded.values.to_pylist() == [b"", b"\x00\xffA", None, bytes(100_000)]
    assert reasons(decode(["\\x41", "A\\000", None], "bytea")) == [
        None,
        "not a bytea in hex form",
        None,
    ]


def test_bytes_that_are_not_utf8_are_refused_alone() -> None:
    raw = [b"ok", "é😀".encode(), b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe9t\xe9", b"", None]
    decoded = decode_column(pa.array(raw), column("text"))
    assert decoded.values.to_pylist() == ["ok", "é😀", None, None, None, None, "", None]
    assert reasons(decoded) == [None, None, *["not valid UTF-8"] * 4, None, None]


def test_a_batch_keeps_the_order_and_types_of_its_columns() -> None:
    columns = [column("int4", "a", comment="first"), column("uuid", "b"), column("date", "c")]
    texts = [pa.array(["1", None]), pa.array([None, "u"]), pa.array(["1970-01-02", None])]
    batch = decode_batch(texts, columns, 99)
    assert batch.rows.schema.equals(arrow_schema(columns), check_metadata=True)
    assert [list(row.values()) for row in batch.rows.cast(batch.rows.schema).to_pylist()][1] == [
        None,
        "u",
        None,
    ]
    assert (batch.rejected, batch.size) == (None, 99)


def test_a_row_that_cannot_be_stored_leaves_the_batch_whole() -> None:
    columns = [column(numeric(3, 1), "price"), column("text", 'n"ame'), column("date", "day")]
    cells = [["1.5", "NaN", "NaN", "2.5"], ["a", None, 'q"\n', "d"], ["1970-01-01", "x", None, "y"]]
    for kind in TEXT_LAYOUTS:
        batch = decode_batch([pa.array(each, kind) for each in cells], columns, 10)
        assert batch.rows.num_rows == 1
        assert batch.rows.column(1).to_pylist() == ["a"]
        assert batch.rejected is not None
        assert batch.rejected.schema == REJECTED_SCHEMA
        special = "NaN or infinity cannot be stored as numeric(3,1)"
        assert batch.rejected.column("column").to_pylist() == ["price", "price", "day"]
        assert batch.rejected.column("reason").to_pylist() == [special, special, "not a date"]
        assert [json.loads(row) for row in batch.rejected.column("row").to_pylist()] == [
            {"price": "NaN", 'n"ame': None, "day": "x"},
            {"price": "NaN", 'n"ame': 'q"\n', "day": None},
            {"price": "2.5", 'n"ame': "d", "day": "y"},
        ]


def test_reasons_never_hold_the_value() -> None:
    for name in ("int4", "float8", "date", "time", "timestamp", "bytea", "bool", numeric(5, 2)):
        [reason] = reasons(decode(["s3cret"], name))  # type: ignore[arg-type]
        assert reason
        assert "s3cret" not in reason
