"""Staged rows take their place, by their scope, in a transaction that somebody else began.

All of it happens in the transaction that also made the stage and will write the bookmark, so every
way of dying in between (a kill, a full disk, a key that is not unique) leaves the file as it was.

- *Everything*, when no other stream writes to the table: the stage **becomes** the table (drop, rename).
  Nothing is copied, and types and columns follow the source without any ALTER.
- *Everything* of one database of a shared table, and *Window*: delete what is in the scope, insert.
- *Joined*: as the scope in it, and then a column of ours has one value in all rows.
- *Keys*: first the staged rows that stand in the table already, equal in every column, are dropped from
  the stage; then delete by key and insert. No index: a join over 6 M rows takes less time than keeping
  an index does.

Loading the same rows again changes nothing: before replacing, the two sides are compared by row count
and `columns.fingerprint` (0.1 s for 6 M rows x 5 columns), and when they are equal the rows stay as
they are, `_pgi_synced_at` included.
"""

from __future__ import annotations

from typing import assert_never

from pg_ingest.batch import (
    AllKeys,
    Changes,
    Counts,
    Everything,
    Groups,
    Joined,
    Keys,
    Ranges,
    Scope,
    Window,
)
from pg_ingest.destinations.duckdb import columns, tables
from pg_ingest.destinations.duckdb.absent import merge_all_keys
from pg_ingest.destinations.duckdb.arrival import (
    ALWAYS,
    Arrival,
    Change,
    S,
    T,
    add_ours,
    become,
    insert,
    nothing,
    stored_type,
)
from pg_ingest.destinations.duckdb.changes import apply_changes, apply_counts
from pg_ingest.destinations.duckdb.columns import DELETED_AT, SYNCED_AT
from pg_ingest.destinations.duckdb.groups import merge_groups
from pg_ingest.destinations.duckdb.key_ranges import merge_ranges
from pg_ingest.destinations.duckdb.merge import check_unique, merge
from pg_ingest.destinations.duckdb.statement import Sql, identifier, literal, sql
from pg_ingest.destinations.duckdb.tables import Stored
from pg_ingest.errors import DestinationFailed


def apply(arrival: Arrival, scope: Scope) -> Change:
    """Put the staged rows into the target; the stage is gone afterwards.

    Raises KeyNotUnique and DestinationFailed; the transaction must then be rolled back.
    """
    match scope:
        case Everything():
            if scope.key:
                check_unique(arrival, scope.key)
            return _everything(arrival)
        case Window():
            return _window(arrival, scope)
        case Keys():
            return merge(arrival, scope.columns)
        case AllKeys():
            return merge_all_keys(arrival, scope.columns)
        case Groups():
            return merge_groups(arrival, scope.columns)
        case Ranges():
            return merge_ranges(arrival, scope)
        case Changes():
            return apply_changes(arrival, scope)
        case Counts():
            return apply_counts(arrival, scope)
        case Joined():
            change = apply(arrival, scope.within)
            _mark(arrival, scope)
            return change
        case _:
            assert_never(scope)


def _everything(arrival: Arrival) -> Change:
    if arrival.table is None:
        return become(arrival)
    if not arrival.alone:
        return _replace(arrival, arrival.table, arrival.ours)
    stored = {name: kind for name, kind in arrival.table.columns.items() if name != SYNCED_AT}
    if list(stored.items()) == list(arrival.stage.columns.items()) and _equal(
        arrival, arrival.table, ALWAYS
    ):
        return nothing(arrival)
    old = arrival.run(sql("SELECT count(*) FROM {table}", table=arrival.table.sql))
    arrival.run(sql("DROP TABLE {table}", table=arrival.table.sql))
    return Change(inserted=become(arrival).inserted, deleted=old)


def _window(arrival: Arrival, window: Window) -> Change:
    kind = stored_type(arrival.stage, window.column)
    inside = [
        sql(
            "{alias}.{column} >= CAST({start} AS {kind}) AND {alias}.{column} < CAST({end} AS {kind})",
            alias=alias,
            column=identifier(window.column),
            kind=Sql(kind),
            start=literal(window.start),
            end=literal(window.end),
        )
        for alias in (S, T)
    ]
    outside = arrival.run(
        sql(
            "SELECT count(*) FROM {stage} AS s WHERE ({inside}) IS NOT TRUE",
            stage=arrival.stage.sql,
            inside=inside[0],
        )
    )
    if outside:
        raise DestinationFailed(
            f"{outside} rows for {arrival.target} lie outside of the window they were read for",
            detail=f"{window.column} from {window.start} to {window.end}",
            hint="they would be stored twice; nothing was changed; please report this",
        )
    if arrival.table is None:
        return become(arrival)
    where = sql("{ours} AND {inside}", ours=arrival.ours, inside=inside[1])
    return _replace(arrival, arrival.table, where)


def _mark(arrival: Arrival, scope: Joined) -> None:
    """All our rows get the value; in a table of one stream a column that is new takes no rewriting."""
    parts = {
        "table": identifier(arrival.target.schema, arrival.target.table),
        "column": identifier(scope.column),
        "value": Sql(str(scope.value)),
        "ours": arrival.ours,
    }
    table = tables.find(arrival.connection, arrival.target.schema, arrival.target.table)
    if table is None or not table.has(scope.column):
        arrival.run(sql("ALTER TABLE {table} ADD COLUMN {column} BIGINT DEFAULT {value}", **parts))
        arrival.run(sql("ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT", **parts))
        if not arrival.alone:
            others = "UPDATE {table} AS t SET {column} = NULL WHERE NOT ({ours})"
            arrival.run(sql(others, **parts))
        return
    arrival.run(sql("UPDATE {table} AS t SET {column} = {value} WHERE {ours}", **parts))


def _replace(arrival: Arrival, table: Stored, where: Sql) -> Change:
    notes = tuple(tables.evolve(arrival.connection, table, arrival.stage))
    add_ours(arrival, table)
    if _equal(arrival, table, where):
        return Change(notes=notes + nothing(arrival).notes)
    deleted = arrival.run(
        sql("DELETE FROM {table} AS t WHERE {where}", table=table.sql, where=where)
    )
    return Change(inserted=insert(arrival, table), deleted=deleted, notes=notes)


def _equal(arrival: Arrival, table: Stored, where: Sql) -> bool:
    """Whether the stage and the rows of the table in the scope are equal as multisets.

    A row that is marked as deleted equals none: its staged twin has come back to life.
    """
    if table.has(DELETED_AT):
        marked = sql("{where} AND t.{mark} IS NOT NULL", where=where, mark=identifier(DELETED_AT))
        if arrival.run(
            sql("SELECT count(*) FROM {table} AS t WHERE {marked}", table=table.sql, marked=marked)
        ):
            return False
    counted = arrival.run(
        sql("SELECT count(*) FROM {table} AS t WHERE {where}", table=table.sql, where=where)
    )
    if counted != arrival.rows:
        return False
    named = list(arrival.stage.data.items())
    sums = [
        arrival.connection.execute(
            sql(
                "SELECT {fingerprint} FROM {table} AS {alias} WHERE {where}",
                fingerprint=columns.fingerprint(alias, named),
                table=source.sql,
                alias=alias,
                where=condition,
            )
        ).fetchone()
        for alias, source, condition in ((S, arrival.stage, ALWAYS), (T, table, where))
    ]
    return sums[0] == sums[1]
