"""Staged rows take their place: three scopes, one transaction that somebody else began.

All of it happens in the transaction that also made the stage and will write the bookmark, so every
way of dying in between (a kill, a full disk, a key that is not unique) leaves the file as it was.

- *Everything*, when no other stream writes to the table: the stage **becomes** the table (drop, rename).
  Nothing is copied, and types and columns follow the source without any ALTER.
- *Everything* of one database of a shared table, and *Window*: delete what is in the scope, insert.
- *Keys*: first the staged rows that stand in the table already, equal in every column, are dropped from
  the stage; then delete by key and insert. No index: a join over 6 M rows takes less time than keeping
  an index does.

Loading the same rows again changes nothing: before replacing, the two sides are compared by row count
and `columns.fingerprint` (0.1 s for 6 M rows x 5 columns), and when they are equal the rows stay as
they are, `_pgi_synced_at` included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

import duckdb

from pg_ingest.batch import Everything, Keys, Scope, Window
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.destinations.duckdb import columns, tables
from pg_ingest.destinations.duckdb.columns import DATABASE, SYNCED_AT
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql
from pg_ingest.destinations.duckdb.tables import Stored
from pg_ingest.errors import DestinationFailed, KeyNotUnique

_S, _T = Sql("s"), Sql("t")
_ALWAYS = Sql("true")


@dataclass(frozen=True, slots=True)
class Change:
    """Rows inserted, updated, deleted; and what the user should know."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """Staged rows and the table they are for.

    Attributes:
        stage: the table that holds them.
        rows: how many there are.
        table: the target as it is now, None when there is none.
        alone: no other stream writes to the target.
        at: the commit's time, a TIMESTAMPTZ constant.
    """

    connection: duckdb.DuckDBPyConnection
    stream: StreamId
    target: Target
    stage: Stored
    rows: int
    table: Stored | None
    alone: bool
    at: Sql

    def run(self, statement: Sql) -> int:
        """Execute; give the number of rows it changed, or the one number it selects."""
        row = self.connection.execute(statement).fetchone()
        return 0 if row is None else int(row[0])

    @property
    def ours(self) -> Sql:
        """The condition for this stream's rows in the target `t`."""
        if self.table is None or not self.table.has(DATABASE):
            return _ALWAYS
        return sql(
            "t.{column} = {database}",
            column=identifier(DATABASE),
            database=literal(self.stream.database),
        )


def apply(arrival: Arrival, scope: Scope) -> Change:
    """Put the staged rows into the target; the stage is gone afterwards.

    Raises KeyNotUnique and DestinationFailed; the transaction must then be rolled back.
    """
    match scope:
        case Everything():
            return _everything(arrival)
        case Window():
            return _window(arrival, scope)
        case Keys():
            return _keys(arrival, scope.columns)
        case _:
            assert_never(scope)


def _everything(arrival: Arrival) -> Change:
    if arrival.table is None:
        return _become(arrival)
    if not arrival.alone:
        return _replace(arrival, arrival.table, arrival.ours)
    stored = {name: kind for name, kind in arrival.table.columns.items() if name != SYNCED_AT}
    if list(stored.items()) == list(arrival.stage.columns.items()) and _equal(
        arrival, arrival.table, _ALWAYS
    ):
        return _nothing(arrival)
    old = arrival.run(sql("SELECT count(*) FROM {table}", table=arrival.table.sql))
    arrival.run(sql("DROP TABLE {table}", table=arrival.table.sql))
    return Change(inserted=_become(arrival).inserted, deleted=old)


def _window(arrival: Arrival, window: Window) -> Change:
    kind = _kind(arrival.stage, window.column)
    inside = [
        sql(
            "{alias}.{column} >= CAST({start} AS {kind}) AND {alias}.{column} < CAST({end} AS {kind})",
            alias=alias,
            column=identifier(window.column),
            kind=Sql(kind),
            start=literal(window.start),
            end=literal(window.end),
        )
        for alias in (_S, _T)
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
        return _become(arrival)
    where = sql("{ours} AND {inside}", ours=arrival.ours, inside=inside[1])
    return _replace(arrival, arrival.table, where)


def _kind(stage: Stored, column: str) -> str:
    if column not in stage.data:
        raise DestinationFailed(
            f"{column} is not among the columns that were read",
            detail=f"there are {', '.join(stage.data)}",
            hint="add it to the table's columns",
        )
    return stage.data[column]


def _keys(arrival: Arrival, keys: tuple[str, ...]) -> Change:
    for key in keys:
        _kind(arrival.stage, key)
    _check_unique(arrival, keys)
    if arrival.table is None:
        return _become(arrival)
    notes = tables.evolve(arrival.connection, arrival.table, arrival.stage)
    same_key = _same([(key, "") for key in keys])
    same_row = _same(arrival.stage.data.items())
    parts = {
        "stage": arrival.stage.sql,
        "table": arrival.table.sql,
        "ours": arrival.ours,
        "same_key": same_key,
        "same_row": same_row,
    }
    arrival.run(
        sql(
            "DELETE FROM {stage} AS s USING {table} AS t WHERE {ours} AND {same_key} AND {same_row}",
            **parts,
        )
    )
    _carry_over(arrival, arrival.table, same_key)
    updated = arrival.run(
        sql("DELETE FROM {table} AS t USING {stage} AS s WHERE {ours} AND {same_key}", **parts)
    )
    stored = _insert(arrival, arrival.table)
    return Change(inserted=stored - updated, updated=updated, notes=tuple(notes))


def _check_unique(arrival: Arrival, keys: tuple[str, ...]) -> None:
    repeated = arrival.run(
        sql(
            "SELECT count(*) FROM (SELECT 1 FROM {stage} GROUP BY {keys} HAVING count(*) > 1)",
            stage=arrival.stage.sql,
            keys=joined(identifier(key) for key in keys),
        )
    )
    if repeated:
        raise KeyNotUnique(
            f"the key ({', '.join(keys)}) of {arrival.target} is not unique",
            detail=f"{repeated} key values occur more than once among {arrival.rows} rows read",
            hint="declare a key that is unique (NULLs count as equal), or use method full_table",
        )


def _carry_over(arrival: Arrival, table: Stored, same_key: Sql) -> None:
    """Columns that the source no longer has keep their values in rows that are replaced."""
    for name, kind in table.data.items():
        if not arrival.stage.has(name):
            parts = {
                "stage": arrival.stage.sql,
                "table": table.sql,
                "name": identifier(name),
                "kind": Sql(kind),
                "ours": arrival.ours,
                "same_key": same_key,
            }
            arrival.run(sql("ALTER TABLE {stage} ADD COLUMN {name} {kind}", **parts))
            arrival.run(
                sql(
                    "UPDATE {stage} AS s SET {name} = t.{name} FROM {table} AS t WHERE {ours} AND {same_key}",
                    **parts,
                )
            )


def _same(named: Iterable[tuple[str, str]]) -> Sql:
    """Rows `s` and `t` agree in these columns, NULLs being equal."""
    pairs = [
        sql("{left} IS NOT DISTINCT FROM {right}", left=left, right=right)
        for name, kind in named
        for left, right in zip(
            columns.exactly(_S, name, kind), columns.exactly(_T, name, kind), strict=True
        )
    ]
    return joined(pairs, " AND ")


def _replace(arrival: Arrival, table: Stored, where: Sql) -> Change:
    notes = tuple(tables.evolve(arrival.connection, table, arrival.stage))
    if _equal(arrival, table, where):
        return Change(notes=notes + _nothing(arrival).notes)
    deleted = arrival.run(
        sql("DELETE FROM {table} AS t WHERE {where}", table=table.sql, where=where)
    )
    return Change(inserted=_insert(arrival, table), deleted=deleted, notes=notes)


def _equal(arrival: Arrival, table: Stored, where: Sql) -> bool:
    """Whether the stage and the rows of the table in the scope are equal as multisets."""
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
        for alias, source, condition in ((_S, arrival.stage, _ALWAYS), (_T, table, where))
    ]
    return sums[0] == sums[1]


def _insert(arrival: Arrival, table: Stored) -> int:
    """Move the staged rows into the table; the stage goes."""
    stored = arrival.run(
        sql(
            "INSERT INTO {table} BY NAME SELECT *, {at} AS {synced} FROM {stage}",
            table=table.sql,
            at=arrival.at,
            synced=identifier(SYNCED_AT),
            stage=arrival.stage.sql,
        )
    )
    arrival.run(sql("DROP TABLE {stage}", stage=arrival.stage.sql))
    return stored


def _nothing(arrival: Arrival) -> Change:
    arrival.run(sql("DROP TABLE {stage}", stage=arrival.stage.sql))
    return Change(notes=("the rows read are the rows stored: nothing was written",))


def _become(arrival: Arrival) -> Change:
    """The stage becomes the table."""
    parts = {
        "stage": arrival.stage.sql,
        "name": identifier(arrival.target.table),
        "synced": identifier(SYNCED_AT),
        "at": arrival.at,
    }
    arrival.run(sql("ALTER TABLE {stage} ADD COLUMN {synced} TIMESTAMPTZ DEFAULT {at}", **parts))
    arrival.run(sql("ALTER TABLE {stage} ALTER COLUMN {synced} DROP DEFAULT", **parts))
    arrival.run(sql("ALTER TABLE {stage} RENAME TO {name}", **parts))
    return Change(inserted=arrival.rows)
