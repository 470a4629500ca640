"""Staged rows take the place of the rows with their keys, and rows whose key the stage does not name go.

The absent ones go first: after the merge the stage is gone. That one join of all keys is a hash join, so it
takes about as long as reading them did.
"""

from __future__ import annotations

from dataclasses import replace

from pg_ingest.destinations.duckdb import tables
from pg_ingest.destinations.duckdb.arrival import Arrival, Change, stored_type
from pg_ingest.destinations.duckdb.columns import CONTROL
from pg_ingest.destinations.duckdb.merge import check_unique, merge, same
from pg_ingest.destinations.duckdb.statement import identifier, sql
from pg_ingest.destinations.duckdb.tables import Stored
from pg_ingest.errors import DestinationFailed

LISTED = CONTROL[-1]


def merge_all_keys(arrival: Arrival, keys: tuple[str, ...]) -> Change:
    """Apply the scope `batch.AllKeys`; the stage is gone afterwards, and counts are exact.

    Raises KeyNotUnique when a key is staged twice, DestinationFailed when there is no table.
    """
    if arrival.table is None:
        raise DestinationFailed(
            f"{arrival.target} is not there",
            detail="only what changed in it was read",
            hint="nothing was stored; `pg-ingest reset TABLE` loads all rows again",
        )
    for key in keys:
        stored_type(arrival.stage, key)
    check_unique(arrival, keys)
    deleted = _delete_absent(arrival, arrival.table, keys)
    change = merge(_without_listed(arrival), keys)
    return replace(change, deleted=deleted)


def _delete_absent(arrival: Arrival, table: Stored, keys: tuple[str, ...]) -> int:
    return arrival.run(
        sql(
            "DELETE FROM {table} WHERE rowid IN"
            " (SELECT t.rowid FROM {table} AS t ANTI JOIN {stage} AS s ON {same_key} WHERE {ours})",
            table=table.sql,
            stage=arrival.stage.sql,
            same_key=same([(key, "") for key in keys]),
            ours=arrival.ours,
        )
    )


def _without_listed(arrival: Arrival) -> Arrival:
    """Only the rows that came whole are still staged."""
    parts = {"stage": arrival.stage.sql, "listed": identifier(LISTED)}
    gone = arrival.run(sql("DELETE FROM {stage} WHERE {listed}", **parts))
    arrival.run(sql("ALTER TABLE {stage} DROP COLUMN {listed}", **parts))
    stage = tables.find(arrival.connection, arrival.stage.schema, arrival.stage.name)
    assert stage is not None
    return replace(arrival, stage=stage, rows=arrival.rows - gone)
