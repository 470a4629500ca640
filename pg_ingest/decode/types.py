"""The one table of types: what becomes of each PostgreSQL type.

`docs/types.md` is this table for people, and a test holds the two together. The types named here are
those of `pg_catalog`; whatever else a database has (enums, composites, ranges, types of extensions)
travels as the text PostgreSQL prints, which loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

from pg_ingest.batch import COMMENT, LOGICAL_TYPE
from pg_ingest.table import Column, PgType, TypeKind


class ElementForm(Enum):
    """How an element of an array is written in the JSON text the array becomes."""

    NUMBER = "a JSON number with PostgreSQL's digits; NaN and infinity are strings"
    BOOLEAN = "true or false"
    JSON = "the JSON document itself"
    STRING = "a JSON string holding PostgreSQL's text"


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a type: Arrow type, LOGICAL_TYPE, and its form inside an array's JSON."""

    arrow: pa.DataType
    logical: str | None = None
    element: ElementForm = ElementForm.STRING


TEXT = Rule(pa.string())

RULES: Mapping[str, Rule] = {
    "bool": Rule(pa.bool_(), element=ElementForm.BOOLEAN),
    "int2": Rule(pa.int16(), element=ElementForm.NUMBER),
    "int4": Rule(pa.int32(), element=ElementForm.NUMBER),
    "int8": Rule(pa.int64(), element=ElementForm.NUMBER),
    "oid": Rule(pa.int64(), element=ElementForm.NUMBER),
    "xid": Rule(pa.int64(), element=ElementForm.NUMBER),
    "cid": Rule(pa.int64(), element=ElementForm.NUMBER),
    "xid8": Rule(pa.decimal128(20, 0), element=ElementForm.NUMBER),
    "float4": Rule(pa.float32(), element=ElementForm.NUMBER),
    "float8": Rule(pa.float64(), element=ElementForm.NUMBER),
    "numeric": Rule(pa.string(), element=ElementForm.NUMBER),
    "date": Rule(pa.date32()),
    "time": Rule(pa.time64("us")),
    "timestamp": Rule(pa.timestamp("us")),
    "timestamptz": Rule(pa.timestamp("us", "UTC")),
    "bytea": Rule(pa.binary()),
    "uuid": Rule(pa.string(), logical="uuid"),
    "json": Rule(pa.string(), logical="json", element=ElementForm.JSON),
    "jsonb": Rule(pa.string(), logical="json", element=ElementForm.JSON),
}
"""By `pg_type.typname` in `pg_catalog`; numeric with a fitting modifier is refined by `rule_for`."""

# fmt: off
PLAIN_TEXT = frozenset({
    "text", "varchar", "bpchar", "char", "name", "xml", "refcursor", "jsonpath",
    "timetz", "interval", "money", "bit", "varbit", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "tid",
    "tsvector", "tsquery", "gtsvector", "point", "line", "lseg", "box", "path", "polygon", "circle",
    "aclitem", "int2vector", "oidvector", "txid_snapshot", "pg_snapshot",
    "regclass", "regcollation", "regconfig", "regdatabase", "regdictionary", "regnamespace",
    "regoper", "regoperator", "regproc", "regprocedure", "regrole", "regtype",
    "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list",
    "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary",
})
"""Types of `pg_catalog` that stay text on purpose, as opposed to types this table does not know.

`int2vector` and `oidvector` count as arrays in `pg_type` but print as `1 2 3`.
"""
# fmt: on

ARRAY = Rule(pa.string(), logical="json")
"""An array column fixes neither its number of dimensions nor its bounds, so a fixed Arrow list would
have to refuse legal rows."""


def numeric_precision(modifier: int) -> tuple[int, int] | None:
    """Precision and scale of a numeric's `atttypmod`, None when it is unconstrained.

    The scale may be negative or exceed the precision from PostgreSQL 15 on (11 bits, signed;
    `numeric_typmod_scale` in src/backend/utils/adt/numeric.c).
    """
    if modifier < 4:
        return None
    packed = modifier - 4
    return (packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


def rule_for(pg_type: PgType) -> Rule:
    """The rule of a type; text for all that this table does not know."""
    built_in = pg_type.schema == "pg_catalog"
    if built_in and pg_type.name in PLAIN_TEXT:
        return TEXT
    if pg_type.kind is TypeKind.ARRAY and pg_type.element is not None:
        return ARRAY
    if pg_type.kind is not TypeKind.BASE or not built_in:
        return TEXT
    if pg_type.name == "numeric" and (bounds := numeric_precision(pg_type.modifier)):
        precision, scale = bounds
        if 0 <= scale <= precision <= 38:
            return Rule(pa.decimal128(precision, scale), element=ElementForm.NUMBER)
    return RULES.get(pg_type.name, TEXT)


def arrow_field(column: Column) -> pa.Field:
    """The column as an Arrow field: always nullable, LOGICAL_TYPE and COMMENT in its metadata."""
    rule = rule_for(column.type)
    metadata: dict[bytes | str, bytes | str] = {}
    if rule.logical is not None:
        metadata[LOGICAL_TYPE] = rule.logical
    if column.comment is not None:
        metadata[COMMENT] = column.comment
    return pa.field(column.name, rule.arrow, nullable=True, metadata=metadata or None)


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The columns as an Arrow schema, in their order."""
    return pa.schema([arrow_field(column) for column in columns])
