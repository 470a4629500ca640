"""Whether a column can be followed: an ordered type, values handed out in ascending order."""

from __future__ import annotations

from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable, SourceTableChanged
from pg_ingest.methods.columns import refuse_missing
from pg_ingest.postgres.keys import FOLLOWED_TYPES, sequences
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table, TypeKind


def followed_key(
    session: Session, replication: Replication, table: Table, chosen: tuple[Column, ...]
) -> Column:
    """The replication key's column.

    Raises MethodUnavailable when none is configured, its type has no order to follow, or its sequence does
    not ascend over all sessions; SourceTableChanged when it is gone or not among the columns read.
    """
    name = replication.replication_key
    if name is None:
        raise MethodUnavailable(
            f"{table.id} has no replication key",
            hint="name a column that grows with each change: `replication_key: updated_at`",
        )
    refuse_missing(table, "replication_key", [name])
    column = table.column(name)
    if column not in chosen:
        raise SourceTableChanged(
            f"{table.id}: the replication key {name} is not among the columns that are read",
            hint="add it to `columns`, or take it out of `exclude_columns`",
        )
    if column.type.kind is not TypeKind.BASE or column.type.name not in FOLLOWED_TYPES:
        raise MethodUnavailable(
            f"{table.id}: a key of type {column.type.display} cannot be followed",
            detail=f"replication_key: {name}",
            hint="take a number, a date or timestamp, a uuid of version 7, or another method",
        )
    _refuse_unordered(session, table, column)
    return column


def _refuse_unordered(session: Session, table: Table, column: Column) -> None:
    for sequence in sequences(session, table, column):
        if not sequence.ascends:
            raise MethodUnavailable(
                f"{table.id}: {column.name} is not handed out in ascending order",
                detail=f"sequence {sequence.name}: increment {sequence.increment},"
                f" cache {sequence.cache}, {'cycle' if sequence.cycles else 'no cycle'}; a session with"
                " a cache writes smaller keys after another session's greater ones",
                hint=f"ALTER SEQUENCE {sequence.name} CACHE 1 NO CYCLE, with a positive increment;"
                " or take another replication key or method",
            )


def refuse_random(table: Table, column: Column, greatest: str) -> None:
    """Raise MethodUnavailable when a uuid key is of a version that does not grow with time."""
    if column.type.name == "uuid" and greatest[14] not in "67":
        raise MethodUnavailable(
            f"{table.id}: {column.name} holds uuids that do not grow with time",
            detail=f"version {greatest[14]}",
            hint="only uuids of version 7 (or 6) can be followed; take another key or method",
        )
