"""Rows that could not be stored, and what becomes of their entries when their keys arrive again.

An entry has the row as JSON of PostgreSQL's texts. Its key is cast to the types of the staged rows and compared
with theirs by value. A key that cannot be cast (it may be what is wrong with the row) equals none: such an
entry stays until all rows are replaced, as do all entries where rows have no key.

It costs nothing where there are no entries, which is the rule, and a join of them with the stage otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, assert_never

import pyarrow as pa

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
from pg_ingest.destinations.duckdb.arrival import ALWAYS, Arrival, stored_type
from pg_ingest.destinations.duckdb.columns import CONTROL
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql

_FRESH = Sql("_pgi_fresh_rejects")

_R, _N = Sql("r"), Sql("n")

_LISTED = CONTROL[-1]


@dataclass(frozen=True, slots=True)
class Entries:
    """Where rejected rows are listed: a table with a column `row`, and which of its rows `r` are ours."""

    table: Sql
    ours: Sql


def forget_answered(arrival: Arrival, scope: Scope, fresh: pa.Table, entries: Entries) -> None:
    """Remove the entries that what is staged, or rejected just now (`fresh`), has made history.

    It must be called before the staged rows take their place.
    """
    parts = {"table": entries.table, "ours": entries.ours}
    run = arrival.connection.execute
    # all rows are fetched, because nothing can be registered beside a result that is still open
    ((listed,),) = run(sql("SELECT count(*) FROM {table} AS r WHERE {ours}", **parts)).fetchall()
    answered = _answered(arrival, scope) if listed else None
    if answered is None:
        return
    arrival.connection.register(_FRESH, fresh)
    delete = sql("DELETE FROM {table} AS r WHERE {ours} AND ({it})", it=answered, **parts)
    run(delete).fetchall()
    arrival.connection.unregister(_FRESH)


def _answered(arrival: Arrival, scope: Scope) -> Sql | None:
    """The condition on an entry `r`; None where no entry is concerned, or the caller removes all."""
    match scope:
        case Everything():
            return None
        case Counts():
            return ALWAYS if scope.truncated else None
        case Window():
            return _within(arrival, scope)
        case Changes():
            return ALWAYS if scope.truncated else _by_key(arrival, scope.columns)
        case AllKeys():
            whole = sql("NOT s.{listed}", listed=identifier(_LISTED))
            known = _by_key(arrival, scope.columns, whole)
            return sql("{known} OR {gone}", known=known, gone=_gone(arrival, scope.columns))
        case Keys() | Groups() | Ranges():
            return _by_key(arrival, scope.columns)
        case Joined():
            return _answered(arrival, scope.within)
        case _:
            assert_never(scope)


_AMONG: LiteralString = """
EXISTS (SELECT 1 FROM {stage} AS s WHERE {which} AND {staged})
OR EXISTS (SELECT 1 FROM {fresh} AS n WHERE {again})
"""


def _by_key(arrival: Arrival, key: Sequence[str], which: Sql = ALWAYS) -> Sql:
    again = [
        sql("{new} IS NOT DISTINCT FROM {old}", new=_text(_N, name), old=_text(_R, name))
        for name in key
    ]
    return sql(
        _AMONG,
        stage=arrival.stage.sql,
        which=which,
        staged=_staged(arrival, key),
        fresh=_FRESH,
        again=joined(again, " AND "),
    )


def _gone(arrival: Arrival, key: Sequence[str]) -> Sql:
    """All keys there are were staged, and this one is none of them."""
    known = [sql("{value} IS NOT NULL", value=_value(arrival, name)) for name in key]
    return sql(
        "({known} AND NOT EXISTS (SELECT 1 FROM {stage} AS s WHERE {staged}))",
        known=joined(known, " AND "),
        stage=arrival.stage.sql,
        staged=_staged(arrival, key),
    )


def _staged(arrival: Arrival, key: Sequence[str]) -> Sql:
    """A null may be a key's value, or one that cannot be cast; only texts that are null are the former."""
    same = [
        sql(
            '(s.{name} = {value} OR (s.{name} IS NULL AND {text} IS NULL AND json_valid(r."row")))',
            name=identifier(name),
            value=_value(arrival, name),
            text=_text(_R, name),
        )
        for name in key
    ]
    return joined(same, " AND ")


def _within(arrival: Arrival, window: Window) -> Sql:
    kind = Sql(stored_type(arrival.stage, window.column))
    return sql(
        "{value} >= CAST({start} AS {kind}) AND {value} < CAST({end} AS {kind})",
        value=_value(arrival, window.column),
        start=literal(window.start),
        end=literal(window.end),
        kind=kind,
    )


def _value(arrival: Arrival, name: str) -> Sql:
    kind = Sql(stored_type(arrival.stage, name))
    return sql("TRY_CAST({text} AS {kind})", text=_text(_R, name), kind=kind)


def _text(alias: Sql, name: str) -> Sql:
    """PostgreSQL's text of a column of the rejected row, by a JSON pointer."""
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return sql(
        'CASE WHEN json_valid({alias}."row") THEN json_extract_string({alias}."row", {pointer}) END',
        alias=alias,
        pointer=literal(pointer),
    )
