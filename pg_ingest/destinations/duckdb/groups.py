"""Staged rows take the place of all rows with their keys, of which there may be several.

A group that stands there already, equal as a multiset, is left alone: number of rows and sum of row hashes
agree, as in `columns.fingerprint`.
"""

from __future__ import annotations

from typing import LiteralString

from pg_ingest.destinations.duckdb import columns, tables
from pg_ingest.destinations.duckdb.arrival import Arrival, Change, S, T, become, insert, stored_type
from pg_ingest.destinations.duckdb.merge import same
from pg_ingest.destinations.duckdb.statement import identifier, joined, sql


def merge_groups(arrival: Arrival, keys: tuple[str, ...]) -> Change:
    """Apply the scope `batch.Groups`; the stage is gone afterwards. A changed row counts as gone and come."""
    for key in keys:
        stored_type(arrival.stage, key)
    if arrival.table is None:
        return become(arrival)
    notes = tables.evolve(arrival.connection, arrival.table, arrival.stage)
    named = list(arrival.stage.data.items())
    parts = {
        "stage": arrival.stage.sql,
        "table": arrival.table.sql,
        "ours": arrival.ours,
        "keys": joined(identifier(key) for key in keys),
        "same_key": same([(key, "") for key in keys]),
        "equal": identifier("temp", "_pgi_equal_groups"),
        "staged_sum": columns.fingerprint(S, named),
        "stored_sum": columns.fingerprint(T, named),
    }
    arrival.run(sql(_FIND_EQUAL, **parts))
    arrival.run(sql("DELETE FROM {stage} AS s USING {equal} AS t WHERE {same_key}", **parts))
    arrival.run(sql("DROP TABLE {equal}", **parts))
    deleted = arrival.run(sql(_DELETE_GROUPS, **parts))
    return Change(inserted=insert(arrival, arrival.table), deleted=deleted, notes=tuple(notes))


_FIND_EQUAL: LiteralString = """
CREATE TEMP TABLE {equal} AS SELECT s.* FROM
(SELECT {keys}, count(*) AS _pgi_rows, {staged_sum} AS _pgi_sum FROM {stage} AS s GROUP BY {keys}) AS s
JOIN (
    SELECT {keys}, count(*) AS _pgi_rows, {stored_sum} AS _pgi_sum FROM {table} AS t
    WHERE {ours} GROUP BY {keys}
) AS t ON {same_key} AND s._pgi_rows = t._pgi_rows AND s._pgi_sum = t._pgi_sum
"""

_DELETE_GROUPS: LiteralString = """
DELETE FROM {table} WHERE rowid IN
(SELECT t.rowid FROM {table} AS t SEMI JOIN {stage} AS s ON {same_key} WHERE {ours})
"""
