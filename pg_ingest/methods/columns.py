"""Which columns of a table are read, judged by a fresh look at it."""

from __future__ import annotations

from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable, PermissionMissing, SourceTableChanged
from pg_ingest.postgres.catalog import unreadable_columns
from pg_ingest.postgres.privileges import grant_columns
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table


def chosen_columns(session: Session, replication: Replication, table: Table) -> tuple[Column, ...]:
    """The columns to read, in the table's order; a column that is new at the source is among them.

    Raises SourceTableChanged when a configured column is gone, PermissionMissing when one may not be
    read, MethodUnavailable when none is left.
    """
    names = [column.name for column in table.columns]
    wanted = names if replication.columns is None else replication.columns
    refuse_missing(table, "columns", wanted)
    excluded = frozenset(replication.exclude_columns)
    chosen = tuple(c for c in table.columns if c.name in set(wanted) - excluded)
    if not chosen:
        raise MethodUnavailable(
            f"{table.id} has no column to read",
            detail=f"{len(names)} columns at the source, {len(excluded)} excluded",
            hint="name some under `columns`, or leave the table out with `exclude`",
        )
    closed = frozenset(unreadable_columns(session, table))
    unreadable = [column.name for column in chosen if column.name in closed]
    if unreadable:
        raise PermissionMissing(
            f"{table.id}: columns may not be read by role {session.role}",
            detail=", ".join(unreadable),
            hint=f"{grant_columns(table.id, unreadable, session.role)}"
            " or leave them out with `exclude_columns`",
        )
    return chosen


def refuse_missing(table: Table, setting: str, names: tuple[str, ...] | list[str]) -> None:
    """Raise SourceTableChanged when the table has no column of one of the names."""
    present = {column.name for column in table.columns}
    missing = [name for name in names if name not in present]
    if missing:
        raise SourceTableChanged(
            f"{table.id} has no column {', '.join(missing)} (any more)",
            detail=f"`{setting}` names it; the source has {', '.join(sorted(present)) or 'none'}",
            hint=f"correct `{setting}` of this table; a renamed column goes by its new name",
        )


def key_columns(
    replication: Replication, table: Table, chosen: tuple[Column, ...]
) -> tuple[str, ...]:
    """The columns that identify a row, or a group of rows: the declared key, else the primary key.

    Raises MethodUnavailable without one, SourceTableChanged when a declared column is gone or not read.
    """
    key = replication.update_key or replication.key or table.primary_key
    if not key:
        raise MethodUnavailable(
            f"{table.id} has no primary key",
            detail=f"method {replication.method} must recognise a row it has stored before",
            hint="declare the columns that are unique: `key: [...]`, or take `method: full_table`",
        )
    refuse_missing(table, "key", key)
    unread = [name for name in key if name not in {column.name for column in chosen}]
    if unread:
        raise SourceTableChanged(
            f"{table.id}: {', '.join(unread)} of the key is not among the columns that are read",
            detail=f"the key is ({', '.join(key)})",
            hint="add it to `columns`, or take it out of `exclude_columns`",
        )
    return key
