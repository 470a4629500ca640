"""Questions about who wrote a row version: its hidden column `xmin`, and the server's transaction ids.

`xmin` holds the low 32 bits of the writer's id, and goes on holding them when the row is frozen (since 9.4:
`HEAP_XMIN_FROZEN` in src/include/access/htup_details.h; VACUUM FREEZE, CLUSTER, VACUUM FULL and COPY FREEZE all
keep them). The type has neither an order nor arithmetic, so it goes through text; `age()` would do too, but its
zero is the present, which moves. Compared with a scan, that costs little (3 M rows: 0.15 s and 0.34 s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from pg_ingest.errors import PermissionMissing
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.select import Condition, SelectQuery, relation, verbatim
from pg_ingest.postgres.session import Session
from pg_ingest.table import RelationKind, Table

IDS = 1 << 32
"""How many transaction ids 32 bits tell apart."""

_VIRTUAL_COLUMNS_SINCE = 180000
_ACCESS_METHODS_SINCE = 120000


@dataclass(frozen=True, slots=True)
class WrittenBetween:
    """Row versions of transactions with `first <= id < end`; ids have 64 bits.

    It leaves no such row version out as long as `end - first` is at most IDS. It may let others in: of ids
    that differ from such a one by a multiple of IDS.
    """

    first: int
    end: int

    def predicate(self) -> sql.Composable:
        """This condition as SQL: the distance from `first` on the circle of 32 bits."""
        return sql.SQL("((xmin::text::int8 - {}) & {}) < {}").format(
            sql.Literal(self.first % IDS), sql.Literal(IDS - 1), sql.Literal(self.end - self.first)
        )


@dataclass(frozen=True, slots=True)
class InPartitions:
    """Rows of the partitions with these oids."""

    oids: tuple[int, ...]

    def predicate(self) -> sql.Composable:
        """This condition as SQL."""
        return sql.SQL("tableoid = ANY({}::oid[])").format(sql.Literal(list(self.oids)))


@dataclass(frozen=True, slots=True)
class Either:
    """Rows that meet one of the conditions at least; none for none."""

    conditions: tuple[Condition, ...]

    def predicate(self) -> sql.Composable:
        """This condition as SQL."""
        if not self.conditions:
            return sql.SQL("false")
        parts = [sql.SQL("({})").format(one.predicate()) for one in self.conditions]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


@dataclass(frozen=True, slots=True)
class Neither:
    """Rows that meet none of the conditions, each of which must be true or false for every row."""

    conditions: tuple[Condition, ...]

    def predicate(self) -> sql.Composable:
        """This condition as SQL."""
        return sql.SQL("NOT {}").format(Either(self.conditions).predicate())


@dataclass(frozen=True, slots=True)
class KeyAmong:
    """Rows without NULL in these columns whose values are among those that a SELECT of them gives."""

    columns: tuple[str, ...]
    chosen: SelectQuery

    def predicate(self) -> sql.Composable:
        """This condition as SQL."""
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        return sql.SQL("({}) IN ({})").format(names, self.chosen.statement)


def both(one: SelectQuery, other: SelectQuery) -> SelectQuery:
    """The rows of two SELECTs of the same columns, one after the other."""
    statement = sql.SQL("{} UNION ALL {}").format(one.statement, other.statement)
    return replace(one, statement=statement)


def count_rows(
    session: Session, table: Table, where: str | None, conditions: Sequence[Condition]
) -> list[int]:
    """How many rows pass the row filter, and how many of these meet each condition: one scan.

    It has the time a long read has (`limits.statement_timeout`).
    """
    counts = [sql.SQL("count(*) FILTER (WHERE {})").format(one.predicate()) for one in conditions]
    statement = sql.SQL("SELECT {} FROM {} WHERE (\n{}\n)").format(
        sql.SQL(", ").join([sql.SQL("count(*)"), *counts]),
        relation(table),
        sql.SQL("true") if where is None else verbatim(where),
    )
    with session.copy(SelectQuery(table.id, statement, ())) as stream:
        line = b"".join(iter(lambda: bytes(stream.read(1 << 16)), b""))
    return [int(field) for field in line.split(b",")]


_SERVER = """
SELECT s.system_identifier::text || '/' || {timeline} || '/' || d.oid::text
FROM pg_catalog.pg_control_system() AS s, pg_catalog.pg_control_checkpoint() AS c, pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database()
"""

_TIMELINE = "left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)"
"""The one that is written now: after a promotion the control file follows only with the next checkpoint."""

_REPLAYED_TIMELINE = "lpad(upper(to_hex(c.timeline_id)), 8, '0')"


def server_of(session: Session) -> str:
    """Which history of which database this is: what is another one after a restore or a promotion.

    System identifier, timeline, oid of the database; "" where the role may not ask. Everyone may, unless
    somebody revoked it.
    """
    timeline = _REPLAYED_TIMELINE if session.is_standby else _TIMELINE
    try:
        ((text,),) = session.rows(
            _SERVER.format(timeline=timeline), what="asking which server it is"
        )
    except PermissionMissing:
        return ""
    return str(text)


def is_flushed(session: Session, lsn: Lsn) -> bool:
    """Whether a crash of the server can take nothing away from what was written up to `lsn`.

    A standby gets only what its primary has flushed.
    """
    if session.is_standby:
        return True
    query = "SELECT pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn"
    ((flushed,),) = session.rows(query, [str(lsn)], what="looking at the end of the log")
    return bool(flushed)


def durable_id(session: Session) -> int:
    """A transaction id below which none is given out again after a crash; 0 where the role may not ask."""
    what = "looking at the last checkpoint"
    may = (
        "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE')"
    )
    if not session.rows(may, what=what)[0][0]:
        return 0
    ((text,),) = session.rows("SELECT next_xid FROM pg_catalog.pg_control_checkpoint()", what=what)
    epoch, _, low = str(text).partition(":")
    return int(epoch) * IDS + int(low)


def hidden_from(session: Session, table: Table) -> tuple[str, ...]:
    """The hidden columns we need that the role may not read, because only other columns were granted."""
    needed = ["xmin", "tableoid"] if table.kind is RelationKind.PARTITIONED else ["xmin"]
    query = (
        "SELECT c FROM unnest(%s::text[]) AS c WHERE NOT has_column_privilege(%s::oid, c, 'SELECT')"
    )
    what = f"looking at the rights on {table.id}"
    return tuple(name for (name,) in session.rows(query, [needed, table.oid], what=what))


_STRANGE = """
WITH RECURSIVE tree(oid) AS (
  SELECT %s::oid
  UNION ALL
  SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree AS t ON i.inhparent = t.oid WHERE %s
)
SELECT c.oid::regclass::text, {method}
FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid {join}
WHERE c.relkind NOT IN ('r', 'm', 'p') OR (c.relkind <> 'p' AND {method} <> 'heap')
ORDER BY 1
"""


def without_xmin(session: Session, table: Table) -> list[tuple[str, str]]:
    """Relations of the tree whose rows do not say who wrote them, and how these are stored."""
    since = session.server_version >= _ACCESS_METHODS_SINCE
    query = _STRANGE.format(
        method="coalesce(a.amname::text, 'elsewhere')" if since else "'heap'",
        join="LEFT JOIN pg_catalog.pg_am AS a ON a.oid = c.relam" if since else "",
    )
    partitioned = table.kind is RelationKind.PARTITIONED
    found = session.rows(query, [table.oid, partitioned], what=f"looking at {table.id}")
    return [(name, method) for name, method in found]


_EXPRESSIONS = """
SELECT a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attgenerated = 'v' AND NOT a.attisdropped
"""


def virtual_columns(session: Session, table: Table) -> dict[str, str]:
    """Columns that are computed when they are read, and how: another expression changes no row version."""
    if session.server_version < _VIRTUAL_COLUMNS_SINCE:
        return {}
    return dict(session.rows(_EXPRESSIONS, [table.oid], what=f"looking at {table.id}"))
