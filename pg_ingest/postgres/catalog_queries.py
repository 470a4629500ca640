"""The questions to pg_catalog, each asked once for a whole database; versions differ only here.

Every query starts from the same set, `wanted`: the relations that can be replicated. System schemas
(`pg_catalog`, `pg_toast`, `pg_temp_…`: the prefix `pg_` is reserved) and information_schema are not in it.

Source: https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from pg_ingest.table import TableId


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which relations: all of the database, or those named."""

    server_version: int
    only: Sequence[TableId] | None = None

    def since(self, version: int, expression: str, before: str) -> sql.SQL:
        """`expression` where the server is at least of that version, `before` on older ones."""
        return sql.SQL(expression if self.server_version >= version else before)

    def cte(self) -> sql.Composed:
        """`wanted AS (…)` with the oids."""
        return sql.SQL(
            "wanted AS ("
            " SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'"
            " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'{})"
        ).format(self._named())

    def _named(self) -> sql.Composable:
        if self.only is None:
            return sql.SQL("")
        return sql.SQL(
            " AND (n.nspname, c.relname) IN (SELECT s::name, t::name FROM unnest({}::text[], {}::text[])"
            " AS named(s, t))"
        ).format(
            sql.Literal([one.schema for one in self.only]),
            sql.Literal([one.name for one in self.only]),
        )


def relations(wanted: Wanted) -> sql.Composed:
    """oid, schema, name, kind, identity, unlogged, is partition, rows, pages, selectable, comment."""
    return sql.SQL(
        "WITH {wanted} SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text,"
        " c.relreplident::text, c.relpersistence = 'u', {partition}, c.reltuples::float8,"
        " c.relpages::int8,"
        " has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT'),"
        " d.description"
        " FROM wanted w JOIN pg_class c ON c.oid = w.oid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_description d ON d.objoid = c.oid"
        " AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0"
    ).format(wanted=wanted.cte(), partition=wanted.since(100000, "c.relispartition", "false"))


def columns(wanted: Wanted) -> sql.Composed:
    """relation oid, name, attnum, type oid, typmod, declared type, not null, generated, comment."""
    return sql.SQL(
        "WITH {wanted} SELECT a.attrelid::int8, a.attname::text, a.attnum::int4, a.atttypid::int8,"
        " a.atttypmod, format_type(a.atttypid, a.atttypmod), a.attnotnull, {generated}, d.description"
        " FROM wanted w JOIN pg_attribute a ON a.attrelid = w.oid"
        " LEFT JOIN pg_description d ON d.objoid = a.attrelid"
        " AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum"
        " WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"
    ).format(wanted=wanted.cte(), generated=wanted.since(120000, "a.attgenerated <> ''", "false"))


def types(wanted: Wanted) -> sql.Composed:
    """oid, name, schema, typtype, base oid and typmod of a domain, element oid of an array, delimiter, SQL.

    All types that columns have, what domains are made of and arrays hold, to any depth. A type is an
    array if some type names it as its `typarray`: `typelem` alone is also set for int2vector and point.
    """
    return sql.SQL(
        "WITH RECURSIVE {wanted}, reached(oid) AS ("
        " SELECT DISTINCT a.atttypid FROM wanted w JOIN pg_attribute a ON a.attrelid = w.oid"
        " WHERE a.attnum > 0 AND NOT a.attisdropped {reach}"
    ).format(wanted=wanted.cte(), reach=sql.SQL(_REACH))


def types_of(oids: Sequence[int]) -> sql.Composed:
    """The same for these types and what they are made of."""
    return sql.SQL(
        "WITH RECURSIVE reached(oid) AS (SELECT DISTINCT unnest({oids}::oid[]) {reach}"
    ).format(oids=sql.Literal(list(oids)), reach=sql.SQL(_REACH))


_REACH: LiteralString = """
UNION SELECT step.oid FROM reached r JOIN pg_type t ON t.oid = r.oid
CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS step(oid) WHERE step.oid <> 0)
SELECT t.oid::int8, t.typname::text, n.nspname::text, t.typtype::text,
t.typbasetype::int8, t.typtypmod, coalesce(e.oid, 0)::int8,
t.typdelim::text, format_type(t.oid, NULL)
FROM reached r JOIN pg_type t ON t.oid = r.oid JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
"""


def indexes(wanted: Wanted) -> sql.Composed:
    """relation oid, is primary, is replica identity, usable as an identity, attnums in key order.

    A deferrable primary key is no identity to the server (`RelationGetIndexList` in relcache.c); columns
    of an INCLUDE clause are not part of the key.
    """
    return sql.SQL(
        "WITH {wanted} SELECT i.indrelid::int8, i.indisprimary, i.indisreplident,"
        " i.indimmediate AND i.indisvalid,"
        " (SELECT array_agg(k.attnum::int4 ORDER BY k.place)"
        "  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)"
        "  WHERE k.place <= {count})"
        " FROM wanted w JOIN pg_index i ON i.indrelid = w.oid"
        " WHERE i.indisprimary OR i.indisreplident"
    ).format(wanted=wanted.cte(), count=wanted.since(110000, "i.indnkeyatts", "i.indnatts"))


def parents(wanted: Wanted) -> sql.Composed:
    """relation oid, topmost ancestor's schema and name, for partitions (of any depth)."""
    return sql.SQL(
        "WITH RECURSIVE {wanted}, up(start, oid) AS ("
        " SELECT w.oid, i.inhparent FROM wanted w JOIN pg_class c ON c.oid = w.oid"
        " JOIN pg_inherits i ON i.inhrelid = w.oid WHERE {partition}"
        " UNION ALL SELECT u.start, i.inhparent FROM up u JOIN pg_inherits i ON i.inhrelid = u.oid)"
        " SELECT u.start::int8, n.nspname::text, c.relname::text FROM up u"
        " JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = u.oid)"
    ).format(wanted=wanted.cte(), partition=wanted.since(100000, "c.relispartition", "false"))


def descendants(wanted: Wanted) -> sql.Composed:
    """relation oid, rows (-1: none analysed) and pages of its leaves, for those with children."""
    return sql.SQL(
        "WITH RECURSIVE {wanted}, down(start, oid) AS ("
        " SELECT w.oid, i.inhrelid FROM wanted w JOIN pg_inherits i ON i.inhparent = w.oid"
        " UNION SELECT d.start, i.inhrelid FROM down d JOIN pg_inherits i ON i.inhparent = d.oid)"
        " SELECT d.start::int8,"
        " coalesce(sum(c.reltuples::float8) FILTER (WHERE c.reltuples > 0 OR c.relpages > 0), -1),"
        " coalesce(sum(c.relpages::int8), 0)::int8"
        " FROM down d JOIN pg_class c ON c.oid = d.oid AND c.relkind <> 'p' GROUP BY d.start"
    ).format(wanted=wanted.cte())
