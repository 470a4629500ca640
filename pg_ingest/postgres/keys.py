"""Questions about a replication key: its greatest value, its order, how its values are handed out.

Values travel as PostgreSQL's text. They are compared by the server, as the column's type and collation
order them, never by us.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import sql

from pg_ingest.postgres.select import Bound, SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table

FOLLOWED_TYPES = frozenset(
    {"int2", "int4", "int8", "numeric", "float4", "float8", "oid", "xid8", "pg_lsn"}
    | {"date", "timestamp", "timestamptz", "uuid", "text", "varchar", "bpchar", "bytea"}
)
"""`typname` of the built-in types a replication key may have: ordered, and a later value can be greater."""

_CLOCK_TYPES = frozenset({"timestamp", "timestamptz"})
_INFINITE_TYPES = frozenset({"numeric", "float4", "float8", "date", "timestamp", "timestamptz"})
_TEXT_TYPES = frozenset({"text", "varchar", "bpchar"})
_NUMERIC_INFINITY_SINCE = 140000
_SEQUENCE_CATALOGUE_SINCE = 100000

CLOCK_SLACK = "10 seconds"
"""How far a position of clock readings stays behind the greatest one.

A backend reads the clock for `now()` some microseconds before its transaction can be seen by others, and
applications that send times of their own have clocks of their own.
"""

_FUTURE = {
    "timestamptz": f"clock_timestamp() + interval '{CLOCK_SLACK}'",
    "timestamp": "clock_timestamp() AT TIME ZONE 'UTC' + interval '15 hours'",
    "date": "(clock_timestamp() AT TIME ZONE 'UTC' + interval '15 hours')::date + 1",
}
"""What no clock has shown yet, in no time zone where the type does not say which (the furthest is UTC+14).

One row of the year 2099 would otherwise be the position for good, and nothing that comes before it be read.
"""


class OrMissing(Bound):
    """The same bound, met by NULL as well."""

    __slots__ = ()

    def predicate(self) -> sql.Composable:
        """`(column op value OR column IS NULL)`."""
        missing = Bound(self.column, "is null").predicate()
        return sql.SQL("({} OR {})").format(super().predicate(), missing)


@dataclass(frozen=True, slots=True)
class GreatestKey:
    """The greatest finite key of some rows.

    Attributes:
        value: the key.
        safe: the position it may stand for: `value`, less CLOCK_SLACK for a clock reading.
    """

    value: str
    safe: str


def base_type(column: Column) -> str:
    """The type to cast a key's text to: the built-in type under a domain, without a length."""
    return f"pg_catalog.{column.type.name}"


def from_key_on(column: Column, position: str) -> Bound:
    """The bound `key >= position`, which NULL meets too where the column may hold it."""
    kind = OrMissing if column.nullable else Bound
    return kind(column.name, ">=", position, base_type(column))


def greatest_key(
    session: Session, table: Table, column: Column, where: str | None
) -> GreatestKey | None:
    """The greatest key that is neither NULL nor infinite nor NaN nor in the future, or None without one.

    A step from the end of an index on the column, where there is one; a scan of the table otherwise, under
    `limits.statement_timeout`.
    """
    bounds = [Bound(column.name, "is not null")]
    if column.type.name in _INFINITE_TYPES:
        bounds.append(Bound(column.name, "<", _beyond(session, column), base_type(column)))
    rows = select_rows(table, [column], where=where, bounds=bounds)
    key = sql.SQL("k.{}").format(sql.Identifier(column.name))
    slack: sql.Composable = sql.SQL("")
    if column.type.name in _CLOCK_TYPES:
        slack = sql.SQL("- {}::interval").format(sql.Literal(CLOCK_SLACK))
    statement = sql.SQL(
        "SELECT ({key})::text, ({key} {slack})::text FROM ({rows}) AS k ORDER BY {key} DESC LIMIT 1"
    ).format(key=key, slack=slack, rows=rows.statement)
    found = _copied(session, SelectQuery(table.id, statement, (column,)))
    return GreatestKey(*found[0]) if found else None


def ranks(
    session: Session, table: Table, column: Column, values: Collection[str]
) -> Mapping[str, int]:
    """The place of each value in the column's order; equal values share a place."""
    if len(values) < 2:
        return dict.fromkeys(values, 1)
    value = sql.SQL("t.v::{}{}").format(
        sql.SQL(base_type(column)),
        _collation(session, table, column),
    )
    query = sql.SQL("SELECT t.v, dense_rank() OVER (ORDER BY {}) FROM unnest(%s::text[]) AS t(v)")
    return dict(session.rows(query.format(value), [list(values)], what="ordering key values"))


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence that fills a column, as far as the order of its values is concerned."""

    name: str
    increment: int
    cache: int
    cycles: bool

    @property
    def ascends(self) -> bool:
        """Whether a value that is handed out later is always greater, over all sessions."""
        return self.increment > 0 and self.cache == 1 and not self.cycles


_SEQUENCES = """
SELECT DISTINCT s.seqrelid::regclass::text, s.seqincrement, s.seqcache, s.seqcycle
FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_depend AS d ON
  (d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype = 'i'
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND d.refobjsubid = %s)
  OR (d.refclassid = 'pg_class'::regclass AND d.refobjid = s.seqrelid
    AND d.classid = 'pg_attrdef'::regclass AND d.objid IN
      (SELECT oid FROM pg_catalog.pg_attrdef WHERE adrelid = %s AND adnum = %s))
"""


def sequences(session: Session, table: Table, column: Column) -> tuple[Sequence, ...]:
    """The sequences behind the column's default or identity, as the catalogue (since 10) knows them."""
    if session.server_version < _SEQUENCE_CATALOGUE_SINCE:
        return ()
    asked = [table.oid, column.attnum] * 2
    found = session.rows(_SEQUENCES, asked, what="looking at the key's sequence")
    return tuple(Sequence(*row) for row in found)


def _beyond(session: Session, column: Column) -> str:
    """The least value in the future, or not finite (numeric has had infinity since 14; NaN is greater)."""
    future = _FUTURE.get(column.type.name)
    if future is not None:
        ((text,),) = session.rows(f"SELECT ({future})::text", what="asking for the time")
        return str(text)
    old = session.server_version < _NUMERIC_INFINITY_SINCE
    return "NaN" if old and column.type.name == "numeric" else "infinity"


_COLLATION = """
SELECT n.nspname, c.collname FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
WHERE a.attrelid = %s AND a.attnum = %s
"""


def _collation(session: Session, table: Table, column: Column) -> sql.Composable:
    if column.type.name not in _TEXT_TYPES:
        return sql.SQL("")
    found = session.rows(_COLLATION, [table.oid, column.attnum], what="looking at a collation")
    return sql.SQL(" COLLATE {}").format(sql.Identifier(*found[0])) if found else sql.SQL("")


def _copied(session: Session, query: SelectQuery) -> list[list[str]]:
    """A small result by way of COPY, so that it has the time a long read has."""
    with session.copy(query) as stream:
        parts = []
        while part := stream.read(1 << 16):
            parts.append(bytes(part))
    return list(csv.reader(io.StringIO(b"".join(parts).decode(), newline="")))
