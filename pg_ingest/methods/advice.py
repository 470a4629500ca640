"""Which methods a table can be replicated by, which suits it best, and why.

The statistics say what happened since they were last reset, not what will; and nobody but the application
knows whether a column that looks like a time of change is set with every change. So the advice names its
reasons, and a method of which one of them cannot be known is never the recommended one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pg_ingest.config.method import Method
from pg_ingest.postgres.activity import Activity
from pg_ingest.postgres.key_order import ordered_column
from pg_ingest.table import Column, RelationKind, ReplicaIdentity, Table

SMALL_ROWS = 50_000
"""Reading as many rows takes about as long as asking what has changed (a tenth of a second)."""

_LOGGED = frozenset({RelationKind.TABLE, RelationKind.PARTITIONED})
_WRITTEN = _LOGGED | {RelationKind.MATERIALIZED_VIEW}
_CHANGE_TIME = re.compile(
    r"(last_?)?(updated?|modified|changed|mod(ification)?|upd)(_?(at|on|time|date|ts|timestamp))?"
)
_TIMES = frozenset({"timestamp", "timestamptz"})


@dataclass(frozen=True, slots=True)
class Advice:
    """What is advised for one table.

    Attributes:
        recommended: the method, `why` it.
        possible: all methods that would work, with what each needs to be known or accepts.
        impossible: the others, each with what stands in its way.
    """

    recommended: Method
    why: str
    possible: Mapping[Method, str] = field(default_factory=dict)
    impossible: Mapping[Method, str] = field(default_factory=dict)


def advise(
    table: Table, *, key: tuple[str, ...] = (), no_log: str = "", activity: Activity | None = None
) -> Advice:
    """Judge every method for one table.

    Args:
        key: declared in the configuration, () for the primary key.
        no_log: why the server or the role allows no log-based replication, "" where they do.
        activity: None where the statistics are not known.
    """
    obstacles = _obstacles(table, key or table.primary_key, no_log)
    possible = {
        method: remark for method, remark in _remarks(table).items() if method not in obstacles
    }
    method, why = _choice(table, frozenset(possible), activity)
    return Advice(method, why, possible, obstacles)


def _obstacles(table: Table, key: tuple[str, ...], no_log: str) -> dict[Method, str]:
    found: dict[Method, str] = {}
    log = no_log or _no_log(table)
    if log:
        found[Method.LOG_BASED] = log
    if not key:
        keyless = "no primary key: declare a `key`"
        found |= dict.fromkeys((Method.SNAPSHOT_DIFF, Method.XMIN, Method.DELTA_SNAPSHOT), keyless)
        found[Method.KEY_BASED] = keyless
    elif not any(ordered_column(c, utf8=True) for c in table.columns if c.name in key):
        found[Method.SNAPSHOT_DIFF] = f"no order of {', '.join(key)} by which to cut ranges"
    if table.kind not in _WRITTEN:
        hidden = f"a {table.kind.value} has no transaction ids of its own"
        found |= dict.fromkeys((Method.XMIN, Method.DELTA_SNAPSHOT), hidden)
    if table.kind is RelationKind.FOREIGN:
        found[Method.SNAPSHOT_DIFF] = "a foreign table's rows are another server's"
    if Method.KEY_BASED not in found and not _candidates(table):
        found[Method.KEY_BASED] = "no column of a type that grows (a number, a date, a time)"
    return found


def _no_log(table: Table) -> str:
    if table.kind not in _LOGGED:
        return f"a {table.kind.value} is not in the log"
    if table.unlogged:
        return "an unlogged table is not in the log"
    if table.identity is ReplicaIdentity.FULL or table.identity_columns:
        return ""
    return "no replica identity: give it a primary key, or ALTER TABLE … REPLICA IDENTITY FULL"


def _remarks(table: Table) -> dict[Method, str]:
    candidates = _candidates(table)
    times = [column.name for column in candidates if _is_change_time(column)]
    columns = ", ".join(times or [column.name for column in candidates][:3])
    return {
        Method.LOG_BASED: "every insert, update and delete, from the log",
        Method.SNAPSHOT_DIFF: "inserts, updates and deletes; the server reads the whole table each time",
        Method.DELTA_SNAPSHOT: "inserts, updates and, by comparing keys, deletes; the server reads the"
        " whole table each time",
        Method.XMIN: "inserts and updates; no deletes; the server reads the whole table each time",
        Method.KEY_BASED: "new and changed rows; no deletes; only if a column grows with every insert"
        f" and update (perhaps {columns})",
        Method.FULL_TABLE: "everything, by reading everything",
    }


def _choice(
    table: Table, possible: frozenset[Method], activity: Activity | None
) -> tuple[Method, str]:
    rows = table.estimated_rows
    if 0 <= rows <= SMALL_ROWS:
        return Method.FULL_TABLE, f"about {rows:,} rows are read as fast as changes are looked for"
    if Method.LOG_BASED in possible:
        return (
            Method.LOG_BASED,
            "changes are told by the log, deletes too, without reading the table",
        )
    if activity is not None and not activity.deletes and Method.XMIN in possible:
        return Method.XMIN, (
            f"next to nothing is deleted ({activity.deleted:,} rows for {activity.inserted:,}"
            " inserted), and no column need be trusted"
        )
    if Method.SNAPSHOT_DIFF in possible:
        return Method.SNAPSHOT_DIFF, "finds deletes too, and only changed ranges travel"
    return Method.FULL_TABLE, "no other method sees every change of it"


def _candidates(table: Table) -> list[Column]:
    grows = {"int2", "int4", "int8", "numeric", "date", *_TIMES}
    found = [column for column in table.columns if column.type.name in grows]
    return sorted(found, key=lambda one: (not _is_change_time(one), one.attnum))


def _is_change_time(column: Column) -> bool:
    named = _CHANGE_TIME.fullmatch(column.name.lower())
    return named is not None and column.type.name in _TIMES
