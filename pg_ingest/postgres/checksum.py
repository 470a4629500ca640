"""A 64-bit checksum of a row's values, computed by the server, with nothing installed.

**Of values.** Two rows have the same checksum when every column prints the same text under our pinned
settings, which is what arrives in the destination. PostgreSQL's hash functions are made for equality, which
is coarser: so for each type that has one, the table below says what is added to tell the values apart. Looked
up in hashfunc.c, numeric.c and timestamp.c of src/backend, and each is a test:

- `hashint8` folds the two halves together, so that 1 and 4294967296 meet. The value as float8 is hashed as
  well: numbers that share it (above 2^53, at most 1024 apart) differ in their lower half alone, or cross a
  multiple of 2^32 with lower halves whose highest bits differ while those of the upper halves are equal, so
  they fold to different values.
- `hash_numeric` looks neither at the sign nor at the scale. The sign is added; a numeric without a fixed
  scale goes by its text, because 1.0 and 1.00 are two texts.
- `hashfloat8` of 0 and `hash_numeric` of NaN give the seed back. A constant of the column is mixed in after
  each, so that (0, 5) and (5, 0) do not meet.
- A timestamp is the microseconds of its minute, and its seconds since 1970 as float8: in no year does that
  round by more than a few milliseconds, and two of one microsecond are at least a minute apart.
- Text is hashed bytewise (COLLATE "C"), whatever the column's collation calls equal. `character(n)` is hashed
  without the blanks it is filled up with: n is part of the column's type.
- What has no line there (floats, for which 0 = -0; json; arrays; enums; types of extensions) is hashed as the
  text of one ROW(…), which quotes its fields and tells NULL from the empty text.

**Of rows.** Each column's hash is the seed of the next one's: order and boundaries of columns count. NULL
hashes as a value that its column cannot hold (NaN among whole numbers, 8e2000 among numerics of at most 1000
digits) or holds with a probability of 2^-122 (uuid and text: a random one of the table).

**How sure.** The seed is random for each table and stays in the bookmark, so nobody can prepare two rows that
meet. A changed row keeps its checksum with a probability of about 2^-64. Checksums of a range are *added up*
(exactly, stored modulo 2^64) and stand beside its number of rows: the order of rows does not matter, equal
rows do not cancel out, and ranges can be cut and joined. So a change is overlooked with about 2^-64 = 5e-20
per changed range and sync. A million ranges that change every minute for a hundred years are 5e13 chances:
one in 350,000 that a single one of them was overlooked.

Servers before 11 lack the 64-bit functions: there it is half of the MD5 of the row's text, about twice as
slow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import LiteralString

from psycopg import sql

from pg_ingest.decode.types import numeric_precision
from pg_ingest.table import Column, TypeKind

RECIPE = 1
"""Goes up when the same values would get another checksum."""

HASHES_OF_64_BITS_SINCE = 110000


def row_checksum(columns: Sequence[Column], seed: int, server_version: int) -> sql.Composable:
    """An expression over a relation's columns: int8, never NULL. `seed` is a signed 64-bit number."""
    if server_version < HASHES_OF_64_BITS_SINCE:
        return _by_text(columns, seed)
    start = sql.SQL("{}::int8").format(sql.Literal(str(seed)))
    ways = [(number, column, _way(column)) for number, column in enumerate(columns)]
    known = [(_Salt(seed, number), column, way) for number, column, way in ways if way is not None]
    chains = [
        _chained(known[first : first + _NESTED], start) for first in range(0, len(known), _NESTED)
    ]
    state = chains[0] if len(chains) == 1 else _text_hash([start, *chains], start)
    others = [sql.Identifier(column.name) for _, column, way in ways if way is None]
    return _text_hash(others, state) if others else state


_NESTED = 32
"""Columns hashed one inside the other; of a wider table there are several such chains, hashed together."""


def _chained(
    known: Sequence[tuple[_Salt, Column, LiteralString]], state: sql.Composable
) -> sql.Composable:
    for salt, column, way in known:
        state = _hashed(way, column, state, salt)
    return state


def _text_hash(values: Sequence[sql.Composable], state: sql.Composable) -> sql.Composable:
    template = sql.SQL('hashtextextended((ROW({}))::text COLLATE "C", {})')
    return template.format(sql.SQL(", ").join(values), state)


def _by_text(columns: Sequence[Column], seed: int) -> sql.Composable:
    template = sql.SQL(
        "('x' || substr(md5({} || (ROW({}))::text), 1, 16))::pg_catalog.\"bit\"(64)::int8"
    )
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    return template.format(sql.Literal(f"{seed} "), names)


class _Salt:
    """Constants of one column, made from the table's seed."""

    def __init__(self, seed: int, number: int) -> None:
        self._bytes = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=32).digest()

    @property
    def number(self) -> sql.Composable:
        return _int8(self._bytes[:8])

    @property
    def another(self) -> sql.Composable:
        return _int8(self._bytes[24:])

    @property
    def text(self) -> sql.Composable:
        return sql.Literal(self._bytes[8:24].hex())

    @property
    def uuid(self) -> sql.Composable:
        return sql.SQL("{}::uuid").format(sql.Literal(self._bytes[8:24].hex()))


def _int8(data: bytes) -> sql.Composable:
    value = int.from_bytes(data, "big", signed=True)
    return sql.SQL("{}::int8").format(sql.Literal(str(value)))


_WHOLE = "hashfloat8extended(coalesce(({value})::float8, 'NaN'), {state}) # {salt}"
_INT8 = f"hashint8extended(coalesce({{value}}, 0), {_WHOLE})"
_TIMESTAMP = (
    "hashfloat8extended(coalesce(date_part('microseconds', {value}), 'NaN'),"
    " hashfloat8extended(coalesce(date_part('epoch', {value}), 'NaN'), {state}) # {salt}) # {pepper}"
)
_DAYS = "({value} - date '2000-01-01')::float8"
_DATE = (
    f"hashfloat8extended(CASE WHEN isfinite({{value}}) THEN {_DAYS}"
    " WHEN {value} > date '2000-01-01' THEN 'Infinity' WHEN {value} < date '2000-01-01' THEN '-Infinity'"
    " ELSE 'NaN' END, {state}) # {salt}"
)
_NUMERIC = (
    "hash_numeric_extended(coalesce({value}, '8e2000'), {state})"
    " # CASE WHEN {value} > 0 THEN {salt} ELSE 0 END"
)

_WAYS: Mapping[str, LiteralString] = {
    "bool": _WHOLE,
    "int2": _WHOLE,
    "int4": _WHOLE,
    "int8": _INT8,
    "oid": _WHOLE,
    "numeric": _NUMERIC,
    "date": _DATE,
    "timestamp": _TIMESTAMP,
    "timestamptz": _TIMESTAMP,
    "uuid": "uuid_hash_extended(coalesce({value}, {uuid}), {state})",
    "text": 'hashtextextended(coalesce({value}, {text}) COLLATE "C", {state})',
    "varchar": 'hashtextextended(coalesce({value}, {text}) COLLATE "C", {state})',
    "bpchar": 'hashbpcharextended(coalesce({value}, {text}::bpchar) COLLATE "C", {state})',
}
"""How a built-in type is hashed. `value` is the column, `state` the hash of the columns before."""

_CASTS: Mapping[str, str] = {"bool": "int4", "oid": "int8", "varchar": "text"}
"""What a value is cast to first; else to its own type, which only undoes a domain."""

_FIXED: Mapping[str, Callable[[int], bool]] = {
    "numeric": lambda modifier: numeric_precision(modifier) is not None,
    "bpchar": lambda modifier: modifier >= 4,
}
"""Types whose way holds only with a fixed scale or length."""


def _way(column: Column) -> LiteralString | None:
    """The line of `_WAYS` for a column, None when it goes by its text."""
    kind = column.type
    if kind.kind is not TypeKind.BASE or kind.schema != "pg_catalog":
        return None
    fixed = _FIXED.get(kind.name)
    if fixed is not None and not fixed(kind.modifier):
        return None
    return _WAYS.get(kind.name)


def _hashed(
    way: LiteralString, column: Column, state: sql.Composable, salt: _Salt
) -> sql.Composable:
    cast = _CASTS.get(column.type.name, column.type.name)
    value = sql.SQL("{}::pg_catalog.{}").format(sql.Identifier(column.name), sql.Identifier(cast))
    return sql.SQL(way).format(
        value=value,
        state=state,
        salt=salt.number,
        pepper=salt.another,
        text=salt.text,
        uuid=salt.uuid,
    )
