from __future__ import annotations

import json

import pyarrow as pa
import pytest

from pg_ingest.decode.values import decode_column
from pg_ingest_tests.decode.making import array_of, column, decode, numeric, pg_type


def rewritten(texts: list[str | None], element: str, **changed: str) -> list[str | None]:
    decoded = decode(texts, array_of(pg_type(element, **changed)))
    assert decoded.problems is None
    return decoded.values.to_pylist()


def test_numbers_keep_their_digits() -> None:
    digits = "9" * 1000 + ".10"
    texts = [f"{{1.50,-0.000,NULL,{digits}}}", "{}", None, "{{1,2},{3,4}}"]
    expected = [f"[1.50,-0.000,null,{digits}]", "[]", None, "[[1,2],[3,4]]"]
    assert rewritten(texts, "numeric") == expected
    assert decode(texts, array_of(numeric(10, 2))).values.to_pylist() == expected


def test_what_json_numbers_cannot_say_becomes_strings() -> None:
    texts: list[str | None] = ["{NaN,Infinity,-Infinity,-0,1e-07,NULL}"]
    assert rewritten(texts, "float8") == ['["NaN","Infinity","-Infinity",-0,1e-07,null]']


def test_booleans() -> None:
    assert rewritten(["{t,f,NULL}", "{{f},{t}}"], "bool") == [
        "[true,false,null]",
        "[[false],[true]]",
    ]


def test_null_the_string_null_and_the_empty_string() -> None:
    assert rewritten(['{NULL,"NULL","null","",NULLS,NUL}'], "text") == [
        '[null,"NULL","null","","NULLS","NUL"]'
    ]


def test_quotes_backslashes_braces_and_delimiters() -> None:
    elements = ['a"b', "\\", '\\"', "{", "}", ",", "é😀", " a ", "\\\\n", "{}"]
    text = "{" + ",".join(json.dumps(each, ensure_ascii=False) for each in elements) + "}"
    [array] = rewritten([text], "text")
    assert array is not None
    assert json.loads(array) == elements


def test_control_characters_are_escaped() -> None:
    [array] = rewritten(['{\x01,"a\tb\r\n",x\x1fy,\x7f}'], "text")
    assert array == '["\\u0001","a\\u0009b\\u000d\\u000a","x\\u001fy","\x7f"]'


def test_arrays_do_not_touch_their_neighbours() -> None:
    texts = ["{a}", None, '{"}"}', "{}", "{{b,c},{d,NULL}}", None]
    assert rewritten(texts, "text") == [
        '["a"]',
        None,
        '["}"]',
        "[]",
        '[["b","c"],["d",null]]',
        None,
    ]


def test_slices_are_read_from_where_they_start() -> None:
    texts = pa.array(["{junk", "{a}", None, "{b,NULL}", 'junk"']).slice(1, 3)
    decoded = decode_column(texts, column(array_of(pg_type("text"))))
    assert decoded.values.to_pylist() == ['["a"]', None, '["b",null]']


def test_lower_bounds_are_kept() -> None:
    assert rewritten(["{1}", "[0:1]={1,2}", None, "[-1:-1][2:3]={{1,2}}"], "int4") == [
        "[1]",
        '{"lower_bounds":[0],"values":[1,2]}',
        None,
        '{"lower_bounds":[-1,2],"values":[[1,2]]}',
    ]
    assert rewritten(['[0:0]={"[0:0]={\n}"}'], "text") == [
        '{"lower_bounds":[0],"values":["[0:0]={\\u000a}"]}'
    ]


def test_json_elements_are_embedded_as_they_are() -> None:
    document = '{"k": "a\\"b\\\\", "n": [1.0, null]}'
    quoted = json.dumps(document)
    for name in ("json", "jsonb"):
        assert rewritten([f'{{{quoted},NULL,1,"\\"s\\""}}'], name) == [f'[{document},null,1,"s"]']


def test_other_elements_are_their_text() -> None:
    assert rewritten(['{"\\\\xdead"}'], "bytea") == ['["\\\\xdead"]']
    assert rewritten(["{infinity,2024-01-01}"], "date") == ['["infinity","2024-01-01"]']
    assert rewritten(['{"[1,2)"}'], "int4range", schema="pg_catalog") == ['["[1,2)"]']


@pytest.mark.parametrize("delimiter", [";", ":"])
def test_some_types_have_their_own_delimiter(delimiter: str) -> None:
    texts: list[str | None] = [f"{{(1,1),(0,0){delimiter}(2,2),(1,1)}}"]
    assert rewritten(texts, "box", delimiter=delimiter) == ['["(1,1),(0,0)","(2,2),(1,1)"]']


def test_columns_of_nulls_and_empty_columns() -> None:
    for name in ("int4", "text", "jsonb", "bool"):
        assert rewritten([None, None], name) == [None, None]
        assert rewritten([], name) == []
