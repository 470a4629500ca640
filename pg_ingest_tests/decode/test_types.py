from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from pg_ingest.batch import COMMENT, LOGICAL_TYPE
from pg_ingest.decode.types import (
    PLAIN_TEXT,
    RULES,
    arrow_field,
    arrow_schema,
    numeric_precision,
    rule_for,
)
from pg_ingest.table import TypeKind
from pg_ingest_tests.decode.conftest import Oracle
from pg_ingest_tests.decode.making import array_of, column, decode, numeric, pg_type

DOCS = Path(__file__).parents[2] / "docs" / "types.md"

SAMPLES = {
    "bool": "t",
    "int2": "-32768",
    "int4": "-2147483648",
    "int8": "9223372036854775807",
    "oid": "4294967295",
    "xid": "4294967295",
    "cid": "4294967295",
    "xid8": "18446744073709551615",
    "float4": "3.4028235e+38",
    "float8": "5e-324",
    "numeric": "-12345678901234567890.0000000000",
    "date": "0044-03-15 BC",
    "time": "24:00:00",
    "timestamp": "infinity",
    "timestamptz": "0044-03-15 12:34:56.789+00 BC",
    "bytea": "\\x00ff",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "json": '{"b": 1,  "a": [null, 1.50]}',
    "jsonb": '{"a": 1e400, "b": "\\u00e9"}',
    "text": 'q"\r\n\\',
    "varchar": " v ",
    "bpchar": "b  ",
    "char": "c",
    "name": "n",
    "refcursor": "r",
    "jsonpath": "$.a[*]",
    "timetz": "24:00:00-15:59:59",
    "interval": "-1 year 2 days -00:00:00.000001",
    "money": "-12.30",
    "bit": "1",
    "varbit": "",
    "inet": "::1/64",
    "cidr": "10.0.0.0/8",
    "macaddr": "08:00:2b:01:02:03",
    "macaddr8": "08:00:2b:01:02:03:04:05",
    "pg_lsn": "16/B374D848",
    "tid": "(1,2)",
    "aclitem": "postgres=r/postgres",
    "tsvector": "'a':1A 'b''c':2",
    "tsquery": "'a' & !'b'",
    "point": "(1,2.5)",
    "line": "{1,2,3}",
    "lseg": "[(0,0),(1,1)]",
    "box": "(1,1),(0,0)",
    "path": "((0,0),(1,1))",
    "polygon": "((0,0),(1,1),(1,0))",
    "circle": "<(0,0),1>",
    "int2vector": "1 2 3",
    "oidvector": "1 2 3",
    "txid_snapshot": "1:4:2,3",
    "pg_snapshot": "1:4:2,3",
    "regclass": "pg_class",
    "regcollation": '"C"',
    "regconfig": "simple",
    "regdictionary": "simple",
    "regnamespace": "public",
    "regoper": "pg_catalog.||/",
    "regoperator": "+(integer,integer)",
    "regproc": "now",
    "regprocedure": "now()",
    "regrole": "postgres",
    "regtype": "integer",
    "int4range": "[1,5)",
    "numrange": "empty",
    "tstzrange": '("2024-01-01 00:00:00+00",infinity]',
    "int4multirange": "{[1,3),[5,7)}",
    "datemultirange": "{}",
}
"""A telling text for each type that can be given one, as the table `docs/types.md` is about."""

NO_INPUT = {
    "gtsvector",
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "xml",
}
"""Types whose values only the server itself makes, or only one that was built with libxml."""
NEWER = {"regdatabase"}
"""Types of PostgreSQL 19."""


def test_the_modifier_of_a_numeric_says_precision_and_scale(oracle: Oracle) -> None:
    for precision, scale in [(1, 0), (10, 2), (38, 38), (1000, 1000), (5, -3), (2, 7), (3, -1000)]:
        oracle.connection.execute("drop table if exists pg_temp.stored")
        oracle.connection.execute(f"create temp table stored (v numeric({precision},{scale}))")
        query = "select atttypmod from pg_attribute where attrelid = 'pg_temp.stored'::regclass"
        [(modifier,)] = oracle.rows(query + " and attname = 'v'")
        assert numeric_precision(modifier) == (precision, scale)
        assert numeric(precision, scale).modifier == modifier
    assert numeric_precision(-1) is None


def test_fields_carry_the_logical_type_and_the_comment() -> None:
    field = arrow_field(column("uuid", "id", nullable=False, comment="whose"))
    assert (field.name, field.type, field.nullable) == ("id", pa.string(), True)
    assert field.metadata == {LOGICAL_TYPE: b"uuid", COMMENT: b"whose"}
    assert arrow_field(column("int4")).metadata is None
    assert arrow_field(column(array_of(pg_type("int4")))).metadata == {LOGICAL_TYPE: b"json"}
    assert arrow_schema([column("int4", "a"), column("date", "b")]).names == ["a", "b"]


def test_only_built_in_types_are_more_than_text() -> None:
    for kind in (TypeKind.ENUM, TypeKind.COMPOSITE, TypeKind.RANGE, TypeKind.MULTIRANGE):
        assert rule_for(pg_type("int4", kind=kind)).arrow == pa.string()
    assert rule_for(pg_type("int4", schema="public")).arrow == pa.string()
    assert rule_for(pg_type("hstore", schema="public")).arrow == pa.string()


def test_the_table_knows_every_built_in_type(oracle: Oracle) -> None:
    base = oracle.rows(
        "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace"
        " and typtype = 'b' and (typelem = 0 or typcategory <> 'A' or typname like '%vector')"
        " and typname not like '\\_%'"
    )
    known = set(RULES) | PLAIN_TEXT
    assert {name for (name,) in base} - known == set()
    assert known - {name for (name,) in base} == NEWER
    assert not set(RULES) & PLAIN_TEXT
    assert known == (set(SAMPLES) & known) | NO_INPUT | NEWER


def test_every_type_of_a_server_has_a_field_and_a_decoder(oracle: Oracle) -> None:
    oids = oracle.rows("select oid, typname from pg_type where typtype in ('b','e','r','m','c')")
    assert len(oids) > 500
    for oid, name in oids:
        of = oracle.type_of(oid)
        decoded = decode([None, None], of)
        assert decoded.values.type == arrow_field(column(of)).type, name
        assert decoded.values.null_count == 2


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_value_of_each_type_arrives_in_any_layout(oracle: Oracle, name: str) -> None:
    answer = oracle.ask(f'"{name}"', [SAMPLES[name], None], f'%s::"{name}"', "format('%s', v)")
    assert answer.rejected == []
    assert answer.decoded.is_valid().to_pylist() == [True, False]
    again = decode([answer.rendered[0], None], answer.of)
    assert answer.decoded.equals(again.values)
    if rule_for(answer.of).arrow == pa.string():
        assert answer.decoded.to_pylist() == [answer.rendered[0], None]


def test_enums_composites_and_domains_are_what_they_are_made_of(oracle: Oracle) -> None:
    with oracle.connection.transaction(force_rollback=True):
        oracle.connection.execute("create type mood as enum ('so so', 'NULL', '')")
        oracle.connection.execute("create type pair as (a int, b text)")
        for declared, values in {
            "mood": ["so so", "NULL", "", None],
            "pair": ['(1,"x ""y""")', "(,)", None],
            "mood[]": ['{"so so",NULL,"NULL",""}'],
            "pair[]": ['{"(1,\\"a,b\\")"}'],
        }.items():
            answer = oracle.ask(declared, values, f"%s::{declared}", "v::text")
            expected = answer.rendered
            if declared == "mood[]":
                expected = ['["so so",null,"NULL",""]']
            if declared == "pair[]":
                expected = ['["(1,\\"a,b\\")"]']
            assert answer.decoded.to_pylist() == expected


def test_the_documentation_names_every_type() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", DOCS.read_text(), re.MULTILINE)
    named = set(re.findall(r"`([^`]+)`", " ".join(rows)))
    assert (set(RULES) | PLAIN_TEXT) - named == set()
