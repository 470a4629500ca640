"""Staged changes of the log are applied to the table, in the transaction that somebody else began.

With a key: values that the log left out are taken from the stored rows first; then every key of the
stage goes, and the rows that exist now come. Without one: as many equal rows go or come as the counts
say. Both prove what they did: a left-out value that no stored row has, or a row to delete that is not
there, means that the table is not what the log continues, and the load is refused.

Soft deletes keep the rows that go and mark them; a key that returns replaces its marked row.
"""

from __future__ import annotations

from typing import LiteralString

import pyarrow as pa

from pg_ingest.batch import Changes, Counts, Reshape
from pg_ingest.destinations.destination import NotContinued
from pg_ingest.destinations.duckdb import tables
from pg_ingest.destinations.duckdb.arrival import ALWAYS, Arrival, Change, add_ours
from pg_ingest.destinations.duckdb.columns import (
    CONTROL,
    DELETED_AT,
    SYNCED_AT,
)
from pg_ingest.destinations.duckdb.merge import carry_over, same
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql
from pg_ingest.destinations.duckdb.tables import Stored

PRESENT, UNCHANGED, BASE, COUNT, _ = CONTROL

_FILLS = "_pgi_fills"


def apply_changes(arrival: Arrival, scope: Changes) -> Change:
    """Apply the last states of keys; the stage is gone afterwards."""
    table, notes = _reshaped(arrival, scope.reshape)
    deleted = _truncate(arrival, table, scope.soft) if scope.truncated else 0
    _fill(arrival, table, scope)
    same_key = same([(key, "") for key in scope.columns])
    carry_over(arrival, table, same_key)
    live = _live(scope.soft)
    updated = arrival.run(
        sql(
            "SELECT count(*) FROM {stage} AS s SEMI JOIN {table} AS t"
            " ON {same_key} AND {ours} AND {live} WHERE s.{present}",
            **_parts(arrival, table, same_key=same_key, live=live),
        )
    )
    deleted += _remove(arrival, table, same_key, soft=scope.soft) - updated
    stored = _insert(arrival, table)
    return Change(stored - updated, updated, deleted, notes)


def apply_counts(arrival: Arrival, scope: Counts) -> Change:
    """Let equal rows come and go; the stage is gone afterwards."""
    table, notes = _reshaped(arrival, scope.reshape)
    deleted = _truncate(arrival, table, scope.soft) if scope.truncated else 0
    parts = _parts(
        arrival,
        table,
        same_row=same(list(arrival.stage.data.items())),
        live=_live(scope.soft),
        count=identifier(COUNT),
    )
    chosen = sql(_CHOOSE, **parts)
    going = arrival.run(
        sql("SELECT coalesce(-sum({count}), 0)::BIGINT FROM {stage} WHERE {count} < 0", **parts)
    )
    change: Sql = sql("DELETE FROM {table} AS t WHERE rowid IN ({chosen})", chosen=chosen, **parts)
    if scope.soft:
        change = sql(
            "UPDATE {table} SET {deleted_at} = {at}, {synced} = {at} WHERE rowid IN ({chosen})",
            chosen=chosen,
            **parts,
        )
    gone = arrival.run(change)
    if gone != going:
        raise _not_continued(arrival, f"{going - gone} rows to delete are not there")
    inserted = arrival.run(sql(_INSERT_COUNTED, **parts))
    arrival.run(sql("DROP TABLE {stage}", **parts))
    return Change(inserted, 0, deleted + gone, notes)


_CHOOSE: LiteralString = """
SELECT place FROM (
    SELECT t.rowid AS place, row_number() OVER (PARTITION BY s.rowid) AS number, -s.{count} AS wanted
    FROM {table} AS t JOIN {stage} AS s ON {same_row}
    WHERE s.{count} < 0 AND {ours} AND {live}
) WHERE number <= wanted
"""

_INSERT_COUNTED: LiteralString = """
INSERT INTO {table} BY NAME
SELECT * EXCLUDE ({count}, _pgi_number), {at} AS {synced}
FROM (SELECT *, unnest(range({count})) AS _pgi_number FROM {stage} WHERE {count} > 0)
"""


def _table(arrival: Arrival) -> Stored:
    if arrival.table is None:
        raise _not_continued(arrival, "the table is not there")
    return arrival.table


def _reshaped(arrival: Arrival, reshape: Reshape) -> tuple[Stored, tuple[str, ...]]:
    """The target with columns for everything that is staged; what was done, one line each."""
    table = _table(arrival)
    notes = [_rename(arrival, table, *names) for names in reshape.renamed]
    table = tables.find(arrival.connection, table.schema, table.name) or table
    add_ours(arrival, table)
    filled = () if reshape.fills is None else reshape.fills.schema.names
    notes += tables.evolve(arrival.connection, table, arrival.stage, filled)
    if reshape.fills is not None:
        _fill_added(arrival, table, reshape.fills)
    return tables.find(arrival.connection, table.schema, table.name) or table, tuple(notes)


def _rename(arrival: Arrival, table: Stored, old: str, new: str) -> str:
    if not table.has(old) or table.has(new):
        raise _not_continued(arrival, f"column {old} cannot be renamed to {new} here")
    arrival.run(
        sql(
            "ALTER TABLE {table} RENAME COLUMN {old} TO {new}",
            table=table.sql,
            old=identifier(old),
            new=identifier(new),
        )
    )
    return f"column {old} renamed to {new}"


def _fill_added(arrival: Arrival, table: Stored, fills: pa.RecordBatch) -> None:
    """Rows that were there before a column show the default of the moment at which it came."""
    arrival.connection.register(_FILLS, pa.Table.from_batches([fills]))
    for name in fills.schema.names:
        arrival.run(
            sql(
                "UPDATE {table} AS t SET {name} = (SELECT {name} FROM {fills}) WHERE {ours}",
                table=table.sql,
                name=identifier(name),
                fills=identifier(_FILLS),
                ours=arrival.ours,
            )
        )
    arrival.connection.unregister(_FILLS)


def _not_continued(arrival: Arrival, what: str) -> NotContinued:
    return NotContinued(
        f"{arrival.target} is not the table that the log continues",
        detail=what,
        hint="somebody changed it, or lost a part of it; nothing was stored;"
        " `pg-ingest reset TABLE` loads all rows again",
    )


def _live(soft: bool) -> Sql:
    return sql("t.{column} IS NULL", column=identifier(DELETED_AT)) if soft else ALWAYS


def _parts(arrival: Arrival, table: Stored, **more: Sql) -> dict[str, Sql]:
    return {
        "stage": arrival.stage.sql,
        "table": table.sql,
        "ours": arrival.ours,
        "at": arrival.at,
        "present": identifier(PRESENT),
        "synced": identifier(SYNCED_AT),
        "deleted_at": identifier(DELETED_AT),
        **more,
    }


def _truncate(arrival: Arrival, table: Stored, soft: bool) -> int:
    parts = _parts(arrival, table, live=_live(soft))
    if soft:
        return arrival.run(
            sql(
                "UPDATE {table} AS t SET {deleted_at} = {at}, {synced} = {at}"
                " WHERE {ours} AND {live}",
                **parts,
            )
        )
    return arrival.run(sql("DELETE FROM {table} AS t WHERE {ours}", **parts))


def _fill(arrival: Arrival, table: Stored, scope: Changes) -> None:
    """Take the values that the log left out from the stored rows, but not from rows marked as deleted.

    A marked row may be older than what came back: it left a row filter, and changed outside.
    """
    left_out = arrival.connection.execute(
        sql(
            "SELECT name, count(*) FROM (SELECT unnest({unchanged}) AS name FROM {stage}) GROUP BY name",
            unchanged=identifier(UNCHANGED),
            stage=arrival.stage.sql,
        )
    ).fetchall()
    same_base = joined(
        [
            sql(
                "s.{base}.{name} IS NOT DISTINCT FROM t.{name}",
                base=identifier(BASE),
                name=identifier(name),
            )
            for name in scope.columns
        ],
        " AND ",
    )
    for name, wanted in left_out:
        filled = arrival.run(
            sql(
                "UPDATE {stage} AS s SET {name} = t.{name} FROM {table} AS t"
                " WHERE list_contains(s.{unchanged}, {text}) AND {same_base} AND {ours}"
                " AND {live}",
                name=identifier(name),
                text=literal(name),
                unchanged=identifier(UNCHANGED),
                same_base=same_base,
                **_parts(arrival, table, live=_live(scope.soft)),
            )
        )
        if filled != wanted and not scope.mixed:
            raise _not_continued(
                arrival, f"{wanted - filled} values of {name} that did not change are not there"
            )


def _remove(arrival: Arrival, table: Stored, same_key: Sql, *, soft: bool) -> int:
    """Let the live rows of the staged keys go; how many there were."""
    parts = _parts(arrival, table, same_key=same_key, live=_live(soft))
    if not soft:
        return arrival.run(
            sql("DELETE FROM {table} AS t USING {stage} AS s WHERE {ours} AND {same_key}", **parts)
        )
    marked = arrival.run(
        sql(
            "UPDATE {table} AS t SET {deleted_at} = {at}, {synced} = {at} FROM {stage} AS s"
            " WHERE {ours} AND {same_key} AND {live}",
            **parts,
        )
    )
    arrival.run(
        sql(
            "DELETE FROM {table} AS t USING {stage} AS s"
            " WHERE {ours} AND {same_key} AND s.{present}",
            **parts,
        )
    )
    return marked


def _insert(arrival: Arrival, table: Stored) -> int:
    parts = _parts(arrival, table, unchanged=identifier(UNCHANGED), base=identifier(BASE))
    stored = arrival.run(
        sql(
            "INSERT INTO {table} BY NAME SELECT * EXCLUDE ({present}, {unchanged}, {base}),"
            " {at} AS {synced} FROM {stage} WHERE {present}",
            **parts,
        )
    )
    arrival.run(sql("DROP TABLE {stage}", **parts))
    return stored
