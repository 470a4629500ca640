"""Whose table is it? Nothing is ever written to a table that this stream does not own.

A table is ours when a row of `_pgi.bookmarks` points to it. A table that somebody made by hand, or that
holds another stream's rows, is left alone; only a *shared* table may have several streams, told apart
by `_pgi_database`.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

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
)
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.destinations.duckdb import ledger, tables
from pg_ingest.destinations.duckdb.columns import DATABASE
from pg_ingest.destinations.duckdb.statement import identifier, literal, sql
from pg_ingest.errors import DestinationFailed


@dataclass(frozen=True, slots=True)
class Owned:
    """What is known about a stream's place before its load.

    Attributes:
        exists: the target is there.
        shared: its rows carry their database, because it is shared or was once.
        owners: the streams whose rows are in it.
        before: where the stream's rows went until now, None before its first load.
    """

    stream: StreamId
    target: Target
    exists: bool
    shared: bool
    owners: tuple[StreamId, ...]
    before: Target | None

    @property
    def alone(self) -> bool:
        """No other stream writes to the target."""
        return all(owner == self.stream for owner in self.owners)


def claim(connection: duckdb.DuckDBPyConnection, stream: StreamId, target: Target) -> Owned:
    """Look the target up; raise DestinationFailed when it is somebody else's."""
    table = tables.find(connection, target.schema, target.table)
    owners = ledger.owners(connection, target)
    if table is not None and (table.is_view or not owners):
        raise DestinationFailed(
            f"{target} is there already and was not made by pg_ingest",
            detail=f"it is a {'view' if table.is_view else 'table'} that no row of _pgi.bookmarks points to",
            hint="rename or drop it, or give this source another name with `naming`",
        )
    others = [owner for owner in owners if owner != stream]
    if others and not target.shared:
        raise DestinationFailed(
            f"{target} belongs to another stream",
            detail=f"{others[0]} writes to it; {stream} would replace its rows",
            hint="give one of them another place with `naming`; if that stream is no longer replicated,"
            " drop the table and delete its row in _pgi.bookmarks",
        )
    return Owned(
        stream=stream,
        target=target,
        exists=table is not None,
        shared=target.shared or (table is not None and table.has(DATABASE)),
        owners=tuple(owners),
        before=ledger.place(connection, stream),
    )


def settle(connection: duckdb.DuckDBPyConnection, owned: Owned, scope: Scope) -> tuple[str, ...]:
    """Before rows are applied: refuse or say what does not follow from the bookmark.

    A table that one stream had alone and now becomes shared gets its `_pgi_database` column.
    """
    if (
        owned.before is not None
        and isinstance(scope, Keys | AllKeys | Groups | Ranges | Changes | Counts | Joined)
        and not _in_place(owned)
    ):
        raise DestinationFailed(
            f"{owned.target} does not hold the rows that {owned.stream} has loaded before",
            detail=f"they went to {owned.before}"
            + ("" if owned.exists else f", and {owned.target} is not there"),
            hint="`pg-ingest reset TABLE` loads all rows again",
        )
    notes: list[str] = []
    if owned.before is not None and str(owned.before) != str(owned.target):
        notes.append(f"the rows loaded before stay in {owned.before}")
    if owned.before is not None and not owned.exists and not isinstance(scope, Everything):
        notes.append(f"{owned.target} was gone: it holds only the rows of this load")
    if owned.exists and owned.shared and _share(connection, owned):
        notes.append(f"{owned.target} is shared from now on: column {DATABASE} added")
    return tuple(notes)


def _in_place(owned: Owned) -> bool:
    return owned.exists and owned.stream in owned.owners


def _share(connection: duckdb.DuckDBPyConnection, owned: Owned) -> bool:
    table = tables.find(connection, owned.target.schema, owned.target.table)
    if table is None or table.has(DATABASE):
        return False
    parts = {
        "table": table.sql,
        "column": identifier(DATABASE),
        "database": literal(owned.owners[0].database),
    }
    connection.execute(
        sql("ALTER TABLE {table} ADD COLUMN {column} VARCHAR DEFAULT {database}", **parts)
    )
    connection.execute(sql("ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT", **parts))
    return True
