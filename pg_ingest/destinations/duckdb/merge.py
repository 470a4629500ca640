"""Staged rows take the place of the rows with their keys.

Delete, then insert, and no index: a join of 100 k keys with 6 M rows takes less time than keeping an
index up to date does, and the file stays half as large. NULLs in keys are equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from pg_ingest.destinations.duckdb import columns, tables
from pg_ingest.destinations.duckdb.arrival import (
    Arrival,
    Change,
    S,
    T,
    become,
    insert,
    stored_type,
)
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, sql
from pg_ingest.destinations.duckdb.tables import Stored
from pg_ingest.errors import KeyNotUnique


def merge(arrival: Arrival, keys: tuple[str, ...]) -> Change:
    """Insert rows with new keys, replace those that differ, leave the others; counts are exact.

    Raises KeyNotUnique when a key occurs twice among the staged rows.
    """
    for key in keys:
        stored_type(arrival.stage, key)
    check_unique(arrival, keys)
    if arrival.table is None:
        return become(arrival)
    notes = tables.evolve(arrival.connection, arrival.table, arrival.stage)
    same_key = same([(key, "") for key in keys])
    _drop_unchanged(arrival, arrival.table, keys)
    carry_over(arrival, arrival.table, same_key)
    updated = arrival.run(
        sql(
            "DELETE FROM {table} AS t USING {stage} AS s WHERE {ours} AND {same_key}",
            table=arrival.table.sql,
            stage=arrival.stage.sql,
            ours=arrival.ours,
            same_key=same_key,
        )
    )
    stored = insert(arrival, arrival.table)
    return Change(inserted=stored - updated, updated=updated, notes=tuple(notes))


def _drop_unchanged(arrival: Arrival, table: Stored, keys: tuple[str, ...]) -> None:
    """Take the staged rows out that stand in the table already.

    A join that compares whole rows holds whole rows in memory, and in little memory that is slow
    (1 M rows against 6 M: 3 s). So a join of keys and row hashes finds candidates first (0.4 s), and
    only these, usually none or few, are compared in full.
    """
    named = list(arrival.stage.data.items())
    parts = {
        "stage": arrival.stage.sql,
        "table": table.sql,
        "ours": arrival.ours,
        "keys": joined(identifier(key) for key in keys),
        "same_key": same([(key, "") for key in keys]),
        "same_row": same(named),
        "candidates": identifier("temp", "_pgi_candidates"),
        "staged_hash": columns.row_hash(S, named),
        "stored_hash": columns.row_hash(T, named),
    }
    if arrival.run(sql(_FIND_CANDIDATES, **parts)):
        arrival.run(sql(_DELETE_UNCHANGED, **parts))
    arrival.run(sql("DROP TABLE {candidates}", **parts))


_FIND_CANDIDATES: LiteralString = """
CREATE TEMP TABLE {candidates} AS
SELECT t.* FROM {table} AS t
SEMI JOIN (SELECT {keys}, {staged_hash} AS _pgi_hash FROM {stage} AS s) AS s
ON {stored_hash} = s._pgi_hash AND {same_key}
WHERE {ours}
"""

_DELETE_UNCHANGED: LiteralString = """
DELETE FROM {stage} AS s USING {candidates} AS t WHERE {same_key} AND {same_row}
"""


def check_unique(arrival: Arrival, keys: tuple[str, ...]) -> None:
    """Raise KeyNotUnique when a key occurs twice among the staged rows."""
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


def carry_over(arrival: Arrival, table: Stored, same_key: Sql) -> None:
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


def same(named: Iterable[tuple[str, str]]) -> Sql:
    """Rows `s` and `t` agree in these columns, NULLs being equal."""
    pairs = [
        sql("{left} IS NOT DISTINCT FROM {right}", left=left, right=right)
        for name, kind in named
        for left, right in zip(
            columns.exactly(S, name, kind), columns.exactly(T, name, kind), strict=True
        )
    ]
    return joined(pairs, " AND ")
