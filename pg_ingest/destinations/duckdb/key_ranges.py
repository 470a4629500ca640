"""Staged rows are all there is in some ranges of the key: what else is stored in there goes.

One ASOF join finds the last bound at or below each stored key, and every other bound begins a range: 6 M rows
and 2,000 bounds take half a second. The first column's least and greatest bound stand beside it as a plain
condition, so that changes in one place of a sorted table read only that place.

Both sides are tested against the other's order. A staged row outside of the ranges, or more stored rows inside
than the source had there at the load before, means that source and destination do not order keys alike: then
nothing is stored, for rows would be deleted that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

import pyarrow as pa

from pg_ingest.batch import Ranges
from pg_ingest.destinations.duckdb.arrival import (
    ALWAYS,
    Arrival,
    Change,
    S,
    T,
    become,
    insert,
    nothing,
    stored_type,
)
from pg_ingest.destinations.duckdb.merge import merge, same
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, sql
from pg_ingest.destinations.duckdb.tables import Stored
from pg_ingest.errors import DestinationFailed

_BOUNDS = identifier("temp", "_pgi_bounds")
_ARRIVING = "_pgi_arriving_bounds"
_INSIDE = "_pgi_inside"


def merge_ranges(arrival: Arrival, scope: Ranges) -> Change:
    """Delete what is in the ranges and not staged; insert and replace as `merge` does. Counts are exact.

    Raises KeyNotUnique, and DestinationFailed when the two sides do not order keys alike.
    """
    if not scope.bounds.num_rows and not scope.open_start:
        arrival.run(sql("DROP TABLE {stage}", stage=arrival.stage.sql))
        return Change()
    for name in (*scope.columns, *scope.bounds.schema.names):
        stored_type(arrival.stage, name)
    if arrival.table is None:
        return become(arrival)
    _make_bounds(arrival, scope)
    _refuse_outside(arrival, scope)
    deleted = _delete_absent(arrival, arrival.table, scope)
    arrival.run(sql("DROP TABLE {bounds}", bounds=_BOUNDS))
    change = merge(arrival, scope.columns) if arrival.rows else nothing(arrival)
    notes = change.notes if arrival.rows else ()
    return Change(change.inserted, change.updated, deleted, notes)


def replace_ranges(arrival: Arrival, scope: Ranges) -> Change:
    """As `merge_ranges` for rows that nobody has seen yet: equal ones are replaced too, in little memory.

    Raises DestinationFailed when the two sides do not order keys alike.
    """
    assert arrival.table is not None
    deleted = 0
    if scope.bounds.num_rows or scope.open_start:
        _make_bounds(arrival, scope)
        _refuse_outside(arrival, scope)
        deleted = _delete_inside(arrival, arrival.table, scope)
        arrival.run(sql("DROP TABLE {bounds}", bounds=_BOUNDS))
    return Change(inserted=insert(arrival, arrival.table), deleted=deleted)


def _delete_inside(arrival: Arrival, table: Stored, scope: Ranges) -> int:
    parts = {
        "found": identifier("temp", "_pgi_found"),
        "rows": _inside(arrival, scope, table, T, arrival.ours),
        "table": table.sql,
    }
    stored = arrival.run(sql("SELECT count(*) FROM {rows}", **parts))
    if stored > scope.stored:
        raise _too_many(arrival, scope, stored)
    if not scope.bounds.num_rows:
        return arrival.run(sql("DELETE FROM {rows}", **parts))
    arrival.run(sql("CREATE TEMP TABLE {found} AS SELECT t.rowid AS _pgi_row FROM {rows}", **parts))
    arrival.run(sql("DELETE FROM {table} WHERE rowid IN (SELECT _pgi_row FROM {found})", **parts))
    arrival.run(sql("DROP TABLE {found}", **parts))
    return stored


def _make_bounds(arrival: Arrival, scope: Ranges) -> None:
    """The bounds as a table with the types of the stage, and whether a range begins at each."""
    starts = [(number % 2 == 0) != scope.open_start for number in range(scope.bounds.num_rows)]
    columns = [*scope.bounds.columns, pa.array(starts, pa.bool_())]
    names = [*scope.bounds.schema.names, _INSIDE]
    arrival.connection.register(_ARRIVING, pa.Table.from_arrays(columns, names=names))
    chosen = [
        sql(
            "CAST({name} AS {kind}) AS {name}",
            name=identifier(name),
            kind=Sql(_kind(arrival, scope, name)),
        )
        for name in scope.bounds.schema.names
    ]
    arrival.run(
        sql(
            "CREATE TEMP TABLE {bounds} AS SELECT {columns} FROM {arriving}",
            bounds=_BOUNDS,
            columns=joined([*chosen, identifier(_INSIDE)]),
            arriving=identifier(_ARRIVING),
        )
    )
    arrival.connection.unregister(_ARRIVING)


def _kind(arrival: Arrival, scope: Ranges, name: str) -> str:
    kind = stored_type(arrival.stage, name)
    as_text = pa.types.is_string(scope.bounds.schema.field(name).type) and kind != "UUID"
    return "VARCHAR" if as_text else kind


_FROM_INSIDE: LiteralString = """
{table} AS {alias} ASOF LEFT JOIN {bounds} AS b ON {stored} >= {bound}
WHERE coalesce(b.{inside}, {open_start}) AND {near} AND {ours}
"""


def _inside(arrival: Arrival, scope: Ranges, source: Stored, alias: Sql, ours: Sql) -> Sql:
    """What stands behind FROM to get the rows of `source` that lie in the ranges."""
    names = scope.bounds.schema.names
    if not scope.bounds.num_rows:
        return sql("{table} AS {alias} WHERE {ours}", table=source.sql, alias=alias, ours=ours)
    stored = [
        sql(
            "CAST({alias}.{name} AS {kind})",
            alias=alias,
            name=identifier(name),
            kind=Sql(_kind(arrival, scope, name)),
        )
        for name in names
    ]
    bound = [sql("b.{name}", name=identifier(name)) for name in names]
    return sql(
        _FROM_INSIDE,
        table=source.sql,
        alias=alias,
        bounds=_BOUNDS,
        stored=_together(stored),
        bound=_together(bound),
        inside=identifier(_INSIDE),
        open_start=Sql("true" if scope.open_start else "false"),
        near=_near(arrival, scope, alias),
        ours=ours,
    )


def _together(values: Sequence[Sql]) -> Sql:
    """Several values as one that compares column by column."""
    if len(values) == 1:
        return values[0]
    numbered = [
        sql("{name} := {value}", name=identifier(f"k{number}"), value=value)
        for number, value in enumerate(values)
    ]
    return sql("struct_pack({values})", values=joined(numbered))


def _near(arrival: Arrival, scope: Ranges, alias: Sql) -> Sql:
    """The first column lies between its outermost bounds, where the ranges have such."""
    name = scope.bounds.schema.names[0]
    parts = {
        "value": sql("{alias}.{name}", alias=alias, name=identifier(name)),
        "kind": Sql(_kind(arrival, scope, name)),
        "name": identifier(name),
        "bounds": _BOUNDS,
    }
    near: list[Sql] = []
    if not scope.open_start:
        near.append(sql("CAST({value} AS {kind}) >= (SELECT min({name}) FROM {bounds})", **parts))
    if (scope.bounds.num_rows % 2 == 0) != scope.open_start:
        near.append(sql("CAST({value} AS {kind}) <= (SELECT max({name}) FROM {bounds})", **parts))
    return joined(near, " AND ") if near else ALWAYS


def _refuse_outside(arrival: Arrival, scope: Ranges) -> None:
    inside = arrival.run(
        sql("SELECT count(*) FROM {rows}", rows=_inside(arrival, scope, arrival.stage, S, ALWAYS))
    )
    if inside != arrival.rows:
        raise _disagreement(
            arrival, scope, f"{arrival.rows - inside} rows read lie outside of them"
        )


def _delete_absent(arrival: Arrival, table: Stored, scope: Ranges) -> int:
    parts = {
        "found": identifier("temp", "_pgi_found"),
        "keys": joined(sql("t.{key}", key=identifier(key)) for key in scope.columns),
        "rows": _inside(arrival, scope, table, T, arrival.ours),
        "table": table.sql,
        "stage": arrival.stage.sql,
        "ours": arrival.ours,
        "same_key": same([(key, "") for key in scope.columns]),
    }
    stored = arrival.run(sql("CREATE TEMP TABLE {found} AS SELECT {keys} FROM {rows}", **parts))
    if stored > scope.stored:
        raise _too_many(arrival, scope, stored)
    arrival.run(sql("DELETE FROM {found} AS t USING {stage} AS s WHERE {same_key}", **parts))
    deleted = arrival.run(
        sql("DELETE FROM {table} AS t USING {found} AS s WHERE {ours} AND {same_key}", **parts)
    )
    arrival.run(sql("DROP TABLE {found}", **parts))
    return deleted


def _too_many(arrival: Arrival, scope: Ranges, stored: int) -> DestinationFailed:
    return _disagreement(
        arrival, scope, f"{stored} rows are stored there, {scope.stored} were read before"
    )


def _disagreement(arrival: Arrival, scope: Ranges, what: str) -> DestinationFailed:
    return DestinationFailed(
        f"{arrival.target}: the ranges of ({', '.join(scope.bounds.schema.names)}) that were read"
        " are other ranges here",
        detail=what,
        hint="somebody wrote to this table, or source and destination do not order these keys alike;"
        " nothing was stored; `pg-ingest reset TABLE` loads all rows again",
    )
