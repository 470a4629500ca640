from __future__ import annotations

import math
import struct
from decimal import Decimal

import pyarrow as pa
import pytest

from pg_ingest_tests.decode.making import decode, numeric, reasons


def test_booleans() -> None:
    decoded = decode(["t", "f", None], "bool")
    assert decoded.values.to_pylist() == [True, False, None]
    assert decoded.problems is None


@pytest.mark.parametrize(("name", "bits"), [("int2", 16), ("int4", 32), ("int8", 64)])
def test_integers_reach_from_end_to_end(name: str, bits: int) -> None:
    ends = [-(2 ** (bits - 1)), 0, None, 2 ** (bits - 1) - 1]
    decoded = decode([None if end is None else str(end) for end in ends], name)
    assert decoded.values.to_pylist() == ends
    assert decoded.values.type.bit_width == bits


@pytest.mark.parametrize("name", ["oid", "xid", "cid"])
def test_unsigned_identifiers_stay_positive(name: str) -> None:
    assert decode(["4294967295"], name).values.to_pylist() == [4294967295]


def test_xid8_keeps_all_64_bits() -> None:
    decoded = decode(["18446744073709551615", "0"], "xid8")
    assert decoded.values.to_pylist() == [Decimal(18446744073709551615), Decimal(0)]


def test_what_is_no_integer_of_the_type_is_refused_alone() -> None:
    decoded = decode(["7", "2147483648", "seven", "", None, "-2147483648"], "int4")
    assert decoded.values.to_pylist() == [7, None, None, None, None, -(2**31)]
    outside, malformed = "integer outside int32", "not an integer"
    assert reasons(decoded) == [None, outside, malformed, malformed, None, None]


def test_floats_keep_their_bits() -> None:
    texts = ["-0", "5e-324", "1.7976931348623157e+308", "Infinity", "-Infinity", "0.1", None]
    values = decode(texts, "float8").values.to_pylist()
    exact = [None if text is None else struct.pack(">d", float(text)) for text in texts]
    assert [None if v is None else struct.pack(">d", v) for v in values] == exact
    assert math.isnan(decode(["NaN"], "float8").values[0].as_py())


def test_single_precision_keeps_its_bits() -> None:
    texts = ["3.4028235e+38", "1e-45", "-0", "0.1"]
    values = decode(texts, "float4").values.to_pylist()
    assert struct.pack(">4f", *values) == struct.pack(">4f", *map(float, texts))


def test_what_is_no_float_is_refused_alone() -> None:
    decoded = decode(["1.5", "x", None], "float8")
    assert decoded.values.to_pylist() == [1.5, None, None]
    assert reasons(decoded) == [None, "not a float", None]


def test_decimals_are_exact_to_38_digits() -> None:
    widest = "-" + "9" * 28 + "." + "9" * 10
    decoded = decode([widest, "0.0000000001", None], numeric(38, 10))
    assert decoded.values.type == pa.decimal128(38, 10)
    assert decoded.values.to_pylist() == [Decimal(widest), Decimal("0.0000000001"), None]


def test_nan_and_infinity_have_no_place_in_a_decimal() -> None:
    decoded = decode(["1.50", "NaN", "Infinity", "-Infinity", None], numeric(5, 2))
    assert decoded.values.to_pylist() == [Decimal("1.50"), None, None, None, None]
    special = "NaN or infinity cannot be stored as numeric(5,2)"
    assert reasons(decoded) == [None, special, special, special, None]


@pytest.mark.parametrize("of", [numeric(5, 2), numeric(2, 2), numeric(3, 0), numeric(38, 38)])
def test_a_decimal_that_does_not_fit_is_refused_alone(of: object) -> None:
    decoded = decode(["0", "1" * 39, "1e5", None], of)  # type: ignore[arg-type]
    assert decoded.values.to_pylist() == [Decimal(0), None, None, None]
    assert [bool(reason) for reason in reasons(decoded)] == [False, True, True, False]


@pytest.mark.parametrize("of", ["numeric", numeric(39, 2), numeric(5, -2), numeric(3, 5)])
def test_other_numerics_stay_text(of: object) -> None:
    texts = ["1.5000", "9" * 1000, "NaN", "-Infinity", None]
    decoded = decode(texts, of)  # type: ignore[arg-type]
    assert decoded.values.type == pa.string()
    assert decoded.values.to_pylist() == texts
