"""Cutting a table into ranges that can be read one by one, by pages or by a key.

**Pages.** Under *one* snapshot every row it sees has one place, so ranges of `ctid` hold each row exactly once.
Under several snapshots they do not: an updated row moves to another page and may be met twice or not at all.
The server reads a range of pages without looking at the others since version 14 (`TidRangeScan`); an older one
would read the whole table for each range. On a partitioned table a range of pages means those pages of every
partition.

**Keys.** A range of key values says which rows are in it whatever page they are on, so the ranges of several
snapshots still hold each *key* at most once. Bounds are sampled: with `TABLESAMPLE SYSTEM` the server reads
some pages at random and orders only their keys. They are exact as bounds, only the number of rows between
them is a guess. Keys are compared by the server, as its index orders them, never by us.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from pg_ingest.postgres.keys import base_type
from pg_ingest.postgres.select import Condition, relation
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, RelationKind, Table, TypeKind

RANGES_OF_PAGES_SINCE = 140000

_PAGES_PER_RANGE = 50
"""Pages sampled for each range: its rows are then what was wanted within some tens of percent."""

_WITH_PAGES = frozenset(
    {RelationKind.TABLE, RelationKind.PARTITIONED, RelationKind.MATERIALIZED_VIEW}
)

Values = tuple[str, ...]
"""One key: PostgreSQL's text of each of its columns."""


@dataclass(frozen=True, slots=True)
class PageRange:
    """Rows on the pages from `first` on and below `end`, all further ones for None."""

    first: int
    end: int | None

    def predicate(self) -> sql.Composable:
        """This range as SQL."""
        at_least = sql.SQL("ctid >= {}::pg_catalog.tid").format(_page(self.first))
        if self.end is None:
            return at_least
        return sql.SQL("{} AND ctid < {}::pg_catalog.tid").format(at_least, _page(self.end))


def _page(number: int) -> sql.Composable:
    return sql.Literal(f"({number},0)")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Rows whose key is not below `lower` and below `end`; None is no bound.

    Attributes:
        columns: of the key, none of which may be NULL in any row.
    """

    columns: tuple[Column, ...]
    lower: Values | None
    end: Values | None

    def predicate(self) -> sql.Composable:
        """This range as SQL, true without bounds."""
        sides = [
            sql.SQL("{} {} {}").format(self._key(), sql.SQL(operator), self._values(values))
            for operator, values in ((">=", self.lower), ("<", self.end))
            if values is not None
        ]
        return sql.SQL(" AND ").join(sides) if sides else sql.SQL("true")

    def _key(self) -> sql.Composable:
        return _row([sql.Identifier(column.name) for column in self.columns])

    def _values(self, values: Values) -> sql.Composable:
        return _row(
            [
                sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(_type(column)))
                for column, value in zip(self.columns, values, strict=True)
            ]
        )


def _row(parts: Sequence[sql.Composable]) -> sql.Composable:
    joined = sql.SQL(", ").join(parts)
    return sql.SQL("({})").format(joined)


def _type(column: Column) -> str:
    """The type to cast a key's text to: a built-in one without its length, any other by its name."""
    built_in = column.type.schema == "pg_catalog" and column.type.kind is TypeKind.BASE
    return base_type(column) if built_in else column.type.display


_PAGES = """
WITH RECURSIVE tree(oid) AS (
  SELECT %s::oid
  UNION ALL
  SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree AS t ON i.inhparent = t.oid WHERE %s
)
SELECT max(pg_catalog.pg_relation_size(c.oid)) / pg_catalog.current_setting('block_size')::int8,
  sum(pg_catalog.pg_relation_size(c.oid)) / pg_catalog.current_setting('block_size')::int8,
  bool_and(c.relkind IN ('r', 'p', 'm'))
FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid
"""


def _pages(session: Session, table: Table) -> tuple[int, int, bool]:
    """Pages of the largest partition, of all, and whether all of it is stored here."""
    partitioned = table.kind is RelationKind.PARTITIONED
    found = session.rows(_PAGES, [table.oid, partitioned], what=f"looking at {table.id}")
    most, total, here = found[0]
    return int(most or 0), int(total or 0), bool(here)


def places_are_shown(session: Session, table: Table) -> bool:
    """Whether our role may say on which pages it wants rows: not where only other columns were granted."""
    query = "SELECT pg_catalog.has_column_privilege(%s::oid, 'ctid', 'SELECT')"
    ((shown,),) = session.rows(query, [table.oid], what=f"looking at the rights on {table.id}")
    return bool(shown)


def page_ranges(session: Session, table: Table, count: int) -> tuple[PageRange, ...]:
    """About `count` ranges of pages that hold all rows of the table, now and later; one where it cannot be cut.

    Read them under one snapshot only.
    """
    if session.server_version < RANGES_OF_PAGES_SINCE or table.kind not in _WITH_PAGES:
        return (PageRange(0, None),)
    most, _, here = _pages(session, table)
    if not here or not places_are_shown(session, table):
        return (PageRange(0, None),)
    each = max(1, math.ceil(most / max(count, 1)))
    begins = list(range(0, max(most, 1), each))
    return tuple(
        PageRange(first, end) for first, end in zip(begins, [*begins[1:], None], strict=True)
    )


_LEADING = """
SELECT DISTINCT a.attname::text FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = %s AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'
"""


def leading_columns(session: Session, table: Table) -> frozenset[str]:
    """The columns with which an index of the table begins, so that a range of their values is read by it."""
    found = session.rows(_LEADING, [table.oid], what=f"looking at the indexes of {table.id}")
    return frozenset(name for (name,) in found)


_SAMPLED = """
SELECT DISTINCT ON (s._pgi_tile) {texts} FROM (
  SELECT {keys}, pg_catalog.ntile({count}) OVER (ORDER BY {keys}) AS _pgi_tile
  FROM {relation} {some}
) AS s
WHERE s._pgi_tile > 1 ORDER BY s._pgi_tile, {order}
"""


def key_ranges(
    session: Session, table: Table, columns: Sequence[Column], count: int
) -> tuple[KeyRange, ...]:
    """About `count` ranges of the key with about as many rows each, which hold every key there can be.

    Runs under `limits.query_timeout`; reads about 50 pages for each range, a small table whole.
    """
    if count < 2:
        return ranges_between(columns, ())
    _, total, _ = _pages(session, table)
    percent = min(100.0, 100.0 * (count + 1) * _PAGES_PER_RANGE / max(total, 1))
    some = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(round(percent, 6)))
    return ranges_between(columns, _bounds(session, table, columns, count, some))


def parts_of(
    session: Session,
    table: Table,
    whole: KeyRange,
    count: int,
    among: Sequence[Condition] = (),
) -> tuple[KeyRange, ...]:
    """About `count` ranges that are `whole` together, each with as many of the rows that meet all of `among`.

    Reads all keys of these, from their index as a rule, under `limits.query_timeout`.
    """
    if count < 2:
        return (whole,)
    return _within(whole, _bounds(session, table, whole.columns, count, _meeting(whole, among)))


def cut(
    session: Session,
    table: Table,
    whole: KeyRange,
    count: int,
    *,
    share: float,
    among: Sequence[Condition] = (),
) -> tuple[KeyRange, ...]:
    """As `parts_of`, with bounds that are sampled where looking at all keys would take longer.

    Args:
        share: about the part of the table that each of the ranges will be.
    """
    _, total, _ = _pages(session, table)
    wanted = _PAGES_PER_RANGE / max(share, 1e-9)
    if count >= 2 and wanted < count * share * total:
        percent = round(100.0 * wanted / total, 6)
        sample = sql.SQL("TABLESAMPLE SYSTEM ({}) {}").format(
            sql.Literal(percent), _meeting(whole, among)
        )
        bounds = _bounds(session, table, whole.columns, count, sample)
        if len(bounds) >= count - 1:
            return _within(whole, bounds)
    return parts_of(session, table, whole, count, among)


def _meeting(whole: KeyRange, among: Sequence[Condition]) -> sql.Composable:
    conditions = [one.predicate() for one in (whole, *among)]
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions))


def _within(whole: KeyRange, bounds: Sequence[Values]) -> tuple[KeyRange, ...]:
    """The ranges that these bounds leave of `whole`; one that is its own lower bound leaves nothing below."""
    inner = [values for values in bounds if values != whole.lower]
    first, *others = ranges_between(whole.columns, inner)
    parts = [replace(first, lower=whole.lower), *others]
    return (*parts[:-1], replace(parts[-1], end=whole.end))


def _bounds(
    session: Session, table: Table, columns: Sequence[Column], count: int, some: sql.Composable
) -> list[Values]:
    """Keys between `count` ranges of the rows that `some` takes."""
    order = [sql.Identifier("s", column.name) for column in columns]
    statement = sql.SQL(_SAMPLED).format(
        texts=sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in order),
        keys=sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        count=sql.Literal(count),
        relation=relation(table),
        some=some,
        order=sql.SQL(", ").join(order),
    )
    found = session.rows(statement, what=f"cutting {table.id} into chunks")
    return [tuple(map(str, row)) for row in found]


def ranges_between(columns: Sequence[Column], bounds: Sequence[Values]) -> tuple[KeyRange, ...]:
    """The ranges that ascending bounds leave between them, the first and the last without an end."""
    distinct = tuple(dict.fromkeys(bounds))
    return tuple(
        KeyRange(tuple(columns), lower, end)
        for lower, end in zip((None, *distinct), (*distinct, None), strict=True)
    )
