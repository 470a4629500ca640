"""Staged rows on the way into their table, and the last steps that all scopes share."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.destinations.duckdb.columns import (
    CONTROL,
    DATABASE,
    SYNCED_AT,
    SYSTEM_PREFIX,
    folded,
)
from pg_ingest.destinations.duckdb.statement import Sql, identifier, literal, sql
from pg_ingest.destinations.duckdb.tables import Stored
from pg_ingest.errors import DestinationFailed

ALWAYS = Sql("true")

S, T = Sql("s"), Sql("t")
"""Aliases: `s` are staged rows, `t` the table's."""


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
            return ALWAYS
        return sql(
            "t.{column} = {database}",
            column=identifier(DATABASE),
            database=literal(self.stream.database),
        )


def stored_type(stage: Stored, column: str) -> str:
    """The column's type; raise DestinationFailed when it was not read."""
    if column not in stage.data:
        raise DestinationFailed(
            f"{column} is not among the columns that were read",
            detail=f"there are {', '.join(stage.data)}",
            hint="add it to the table's columns",
        )
    return stage.data[column]


def insert(arrival: Arrival, table: Stored) -> int:
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


def add_ours(arrival: Arrival, table: Stored) -> None:
    """Our own stored columns, if a change of the table's settings brings new ones."""
    for name, kind in arrival.stage.columns.items():
        ours = folded(name).startswith(SYSTEM_PREFIX) and name not in CONTROL
        if ours and not table.has(name):
            arrival.run(
                sql(
                    "ALTER TABLE {table} ADD COLUMN {name} {kind}",
                    table=table.sql,
                    name=identifier(name),
                    kind=Sql(kind),
                )
            )


def nothing(arrival: Arrival) -> Change:
    """The stage goes, the table stays as it is."""
    arrival.run(sql("DROP TABLE {stage}", stage=arrival.stage.sql))
    return Change(notes=("the rows read are the rows stored: nothing was written",))


def become(arrival: Arrival) -> Change:
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
