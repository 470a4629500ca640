"""Any value, stored in a real server: what arrives is what the server says it is.

The server's side of each comparison is not the text that COPY sends but another rendering of the same
value: its binary form, its JSON, its digits.
"""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pg_ingest_tests.decode.conftest import Oracle
from pg_ingest_tests.decode.making import ticks

few = settings(max_examples=20, deadline=None)

DAY = 86_400_000_000
YEAR_2000 = 10_957
"""Days from 1970, where Arrow counts from, to 2000, where PostgreSQL's binary forms do."""
LAST_MOMENT = 2**63 - 1

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
awkward = st.text(st.sampled_from("aN{},;\"\\ \t\r\n\x01'é😀"), max_size=8)
strings = st.one_of(st.sampled_from(["", "NULL", "null", "\\N", "\\."]), texts, awkward)


def columns(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(st.none(), values), min_size=1, max_size=12)


def signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize(("declared", "bits"), [("int2", 16), ("int4", 32), ("int8", 64)])
def test_integers(oracle: Oracle, declared: str, bits: int) -> None:
    @few
    @given(columns(signed(bits)))
    def check(values: list[int | None]) -> None:
        answer = oracle.ask(declared, values, "%s", "v")
        assert answer.decoded.to_pylist() == answer.rendered == values

    check()


@pytest.mark.parametrize(
    ("declared", "width", "form"), [("float4", 32, ">f"), ("float8", 64, ">d")]
)
def test_floats_bit_by_bit(oracle: Oracle, declared: str, width: Any, form: str) -> None:
    @few
    @given(columns(st.floats(width=width)))
    def check(values: list[float | None]) -> None:
        answer = oracle.ask(declared, values, "%s", f"{declared}send(v)")
        expected = [
            None if sent is None else struct.unpack(form, sent)[0] for sent in answer.rendered
        ]
        assert list(map(repr, answer.decoded.to_pylist())) == list(map(repr, expected))

    check()


@st.composite
def decimals(draw: st.DrawFn) -> tuple[int, int, list[Decimal | None]]:
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    unscaled = st.integers(-(10**precision) + 1, 10**precision - 1)
    made = unscaled.map(lambda digits: Decimal(f"{digits}e-{scale}"))
    return precision, scale, draw(columns(made))


def test_decimals(oracle: Oracle) -> None:
    @few
    @given(decimals())
    def check(case: tuple[int, int, list[Decimal | None]]) -> None:
        precision, scale, values = case
        answer = oracle.ask(f"numeric({precision},{scale})", values, "%s", "v")
        assert answer.decoded.to_pylist() == answer.rendered == values

    check()


def test_unconstrained_numerics(oracle: Oracle) -> None:
    digits = st.from_regex(r"-?[0-9]{1,500}(\.[0-9]{1,500})?", fullmatch=True)
    special = st.sampled_from(["NaN", "Infinity", "-Infinity", "1e-300", "-0.000"])

    @few
    @given(columns(st.one_of(digits, special)))
    def check(values: list[str | None]) -> None:
        answer = oracle.ask("numeric", values, "%s::numeric", "v")
        arrived = [None if text is None else Decimal(text) for text in answer.decoded.to_pylist()]
        assert list(map(str, arrived)) == list(map(str, answer.rendered))

    check()


def test_numeric_nan_is_rejected(oracle: Oracle) -> None:
    answer = oracle.ask("numeric(5,1)", ["NaN", "1.5", None], "%s::numeric", "v::text")
    assert answer.decoded.to_pylist() == [Decimal("1.5"), None]
    assert answer.rejected == ["NaN"]


def test_dates(oracle: Oracle) -> None:
    infinities = st.sampled_from([2**31 - 1, -(2**31 - 1)])
    days = st.one_of(
        st.integers(-2_440_588, 2_145_042_905), infinities, st.integers(-800_000, 50_000)
    )
    made = (
        "(select case x when 2147483647 then 'infinity' when -2147483647 then '-infinity'"
        " else date '1970-01-01' + x end from (values (%s::int)) t(x))"
    )

    @few
    @given(columns(days))
    def check(values: list[int | None]) -> None:
        answer = oracle.ask("date", values, made, "encode(date_send(v), 'hex')")
        sent = [None if v is None else _from_hex(v) for v in answer.rendered]
        expected = [_since_1970(v, 2**31, YEAR_2000) for v in sent]
        assert ticks(answer.decoded) == expected == values

    check()


@pytest.mark.parametrize("declared", ["timestamp", "timestamptz"])
def test_timestamps(oracle: Oracle, declared: str) -> None:
    days = st.one_of(st.integers(-2_440_588, 106_751_992), st.integers(-800_000, 50_000))
    moments = st.tuples(days, st.one_of(st.just(0), st.integers(0, DAY - 1)))
    edges = [(106_751_991, 14_454_775_806), (106_751_991, 14_454_775_807)]
    made = (
        "(select (date '1970-01-01' + (x->>0)::int + interval '1 microsecond' * (x->>1)::int8)"
        f"::{declared} from (values (%s::json)) t(x))"
    )

    @few
    @given(columns(st.one_of(moments, st.sampled_from(edges))))
    def check(values: list[tuple[int, int] | None]) -> None:
        given_values = [None if v is None else json.dumps(v) for v in values]
        answer = oracle.ask(declared, given_values, made, f"encode({declared}_send(v), 'hex')")
        exact = [None if v is None else v[0] * DAY + v[1] for v in values]
        assert ticks(answer.decoded) == [
            _since_1970(None if v is None else _from_hex(v), 2**63, YEAR_2000 * DAY)
            for v in answer.rendered
        ]
        assert ticks(answer.decoded) == [v for v in exact if v is None or v < LAST_MOMENT]
        assert len(answer.rejected) == sum(v is not None and v >= LAST_MOMENT for v in exact)

    check()
    answer = oracle.ask(declared, ["infinity", "-infinity"], f"%s::{declared}", "v::text")
    assert ticks(answer.decoded) == [LAST_MOMENT, -LAST_MOMENT]


def _from_hex(digits: str) -> int:
    return int.from_bytes(bytes.fromhex(digits), "big", signed=True)


def _since_1970(sent: int | None, size: int, epoch: int) -> int | None:
    """The server's binary form has the lowest and highest integer for the infinities."""
    if sent is None or sent == size - 1:
        return sent
    return -(size - 1) if sent == -size else sent + epoch


def test_times(oracle: Oracle) -> None:
    made = (
        "(select case x when 86400000000 then time '24:00:00'"
        " else time '00:00' + interval '1 microsecond' * x end from (values (%s::int8)) t(x))"
    )

    @few
    @given(columns(st.integers(0, DAY)))
    def check(values: list[int | None]) -> None:
        answer = oracle.ask("time", values, made, "encode(time_send(v), 'hex')")
        assert ticks(answer.decoded) == values
        assert [None if v is None else _from_hex(v) for v in answer.rendered] == values

    check()


def test_bytes(oracle: Oracle) -> None:
    @few
    @given(columns(st.binary(max_size=60)))
    def check(values: list[bytes | None]) -> None:
        assert oracle.ask("bytea", values, "%s", "v").decoded.to_pylist() == values

    check()


@pytest.mark.parametrize("declared", ["text", "varchar(40)"])
def test_texts(oracle: Oracle, declared: str) -> None:
    @few
    @given(columns(strings))
    def check(values: list[str | None]) -> None:
        answer = oracle.ask(declared, values, "%s", "convert_to(v, 'UTF8')")
        assert answer.decoded.to_pylist() == values
        assert [None if v is None else v.decode() for v in answer.rendered] == values

    check()


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize("declared", ["json", "jsonb"])
def test_json(oracle: Oracle, declared: str) -> None:
    @few
    @given(columns(documents.map(lambda document: json.dumps(document, ensure_ascii=False))))
    def check(values: list[str | None]) -> None:
        answer = oracle.ask(declared, values, f"%s::{declared}", "v::text")
        assert answer.decoded.to_pylist() == answer.rendered

    check()


@st.composite
def arrays(draw: st.DrawFn, elements: st.SearchStrategy[Any]) -> list[Any]:
    """Rectangular nested lists of one to three dimensions; an empty one has none."""
    shape = draw(st.lists(st.integers(1, 3), min_size=0, max_size=3))

    def make(sizes: list[int]) -> Any:
        if not sizes:
            return draw(st.one_of(st.none(), elements))
        return [make(sizes[1:]) for _ in range(sizes[0])]

    return make(shape) if shape else []


ARRAYS = {
    "text": strings,
    "varchar": strings,
    "int4": signed(32),
    "int8": signed(64),
    "float8": st.floats(),
    "bool": st.booleans(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=5),
}


@pytest.mark.parametrize("element", list(ARRAYS))
def test_arrays_are_what_to_json_makes_of_them(oracle: Oracle, element: str) -> None:
    @few
    @given(columns(arrays(ARRAYS[element])))
    def check(values: list[Any]) -> None:
        answer = oracle.ask(f"{element}[]", values, f"%s::{element}[]", "to_json(v)::text")
        for ours, theirs in zip(answer.decoded.to_pylist(), answer.rendered, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or repr(_exact(ours)) == repr(_exact(theirs))

    check()


def _exact(document: str) -> Any:
    """JSON read with PostgreSQL's digits, so that 1.50 is not 1.5."""
    return json.loads(document, parse_float=str, parse_int=str)


def test_arrays_of_json(oracle: Oracle) -> None:
    dumped = documents.map(lambda document: json.dumps(document, ensure_ascii=False))

    @few
    @given(columns(st.lists(dumped, max_size=4)))
    def check(values: list[Any]) -> None:
        answer = oracle.ask("jsonb[]", values, "%s::text[]::jsonb[]", "to_json(v)::text")
        for ours, theirs in zip(answer.decoded.to_pylist(), answer.rendered, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or _exact(ours) == _exact(theirs)

    check()


OTHERS = {
    "date": st.dates(),
    "timestamptz": st.datetimes(),
    "bytea": st.binary(max_size=5),
    "uuid": st.uuids(),
    "box": st.sampled_from(["(1,1),(0,0)", "(2.5,3),(-1,0)"]),
    "int4range": st.sampled_from(["[1,2)", "empty", "(,)", "[5,)"]),
    "interval": st.timedeltas(),
    "inet": st.ip_addresses(),
}


@pytest.mark.parametrize("element", list(OTHERS))
def test_arrays_of_others_hold_each_element_s_text(oracle: Oracle, element: str) -> None:
    rendering = "(select json_agg(format('%s', e)) from unnest(v) e)::text"

    @few
    @given(columns(st.lists(OTHERS[element].map(_literal), min_size=1, max_size=4)))
    def check(values: list[Any]) -> None:
        made = f"%s::text[]::{element}[]"
        answer = oracle.ask(f"{element}[]", values, made, rendering)
        for ours, theirs in zip(answer.decoded.to_pylist(), answer.rendered, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or json.loads(ours) == json.loads(theirs)

    check()


def _literal(value: Any) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def test_arrays_keep_their_bounds(oracle: Oracle) -> None:
    made = (
        "(select format('[%%s:%%s]=%%s', x->>0, (x->>0)::int + json_array_length(x->1) - 1,"
        " (select array_agg(e) from json_array_elements_text(x->1) e))::text[]"
        " from (values (%s::json)) t(x))"
    )
    cases = st.tuples(st.integers(-1000, 1000), st.lists(strings, min_size=1, max_size=3))

    @few
    @given(st.lists(cases, min_size=1, max_size=5))
    def check(values: list[tuple[int, list[str]]]) -> None:
        rendering = "json_build_array(array_lower(v, 1), to_json(v))::text"
        answer = oracle.ask("text[]", [json.dumps(v) for v in values], made, rendering)
        for ours, theirs in zip(answer.decoded.to_pylist(), answer.rendered, strict=True):
            lower, elements = json.loads(theirs)
            plain = {"lower_bounds": [lower], "values": elements}
            assert json.loads(ours) == (elements if lower == 1 else plain)

    check()
