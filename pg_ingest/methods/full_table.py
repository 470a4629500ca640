"""Full table: all rows, or all rows of one time window, at one moment.

The rows are read in one snapshot, a large table's by several connections that share it (`all_rows.py`), so
they are what the table was at one moment. They replace the stored rows (those of the window, if one is
given) in the transaction that also stores the bookmark. A read that fails, at whatever row, raises before
that transaction begins: the stored rows stay as they were, and a failure never looks like an empty table.

A window holds the rows with `start <= column < end`. Rows whose column is NULL, or that lie before the first
window, belong to none and are not replicated; where the column may hold NULL each reading says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pg_ingest.batch import Everything, Reading, Scope, Window
from pg_ingest.bookmark import FullTableBookmark
from pg_ingest.config.model import PartitionBy, WindowSize
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.errors import ConfigError
from pg_ingest.methods.all_rows import all_rows
from pg_ingest.methods.columns import chosen_columns, refuse_missing
from pg_ingest.methods.request import Request
from pg_ingest.postgres.select import Bound
from pg_ingest.table import Table

_WINDOW_TYPES = frozenset({"date", "timestamp", "timestamptz"})


@contextmanager
def read(request: Request) -> Iterator[Reading]:
    """All rows of the table, or of the window that is asked for.

    Neither `bookmark` nor `reset` matters here: every reading starts from nothing.

    Raises ConfigError for a window without `partition_by` or the other way round, SourceTableChanged,
    PermissionMissing, QueryRefused.
    """
    session, replication, table = request.subject
    columns = chosen_columns(session, replication, table)
    scope = _scope(replication, table, request.window)
    with all_rows(session, replication, table, columns, _bounds(table, scope)) as rows:
        yield Reading(
            schema=arrow_schema(columns),
            batches=rows.batches,
            scope=scope,
            bookmark=FullTableBookmark(str(rows.snapshot.lsn), rows.snapshot.taken_at),
            phase="window" if isinstance(scope, Window) else "snapshot",
            position_from=scope.start if isinstance(scope, Window) else "",
            position_to=scope.end if isinstance(scope, Window) else str(rows.snapshot.lsn),
            notes=_notes(table, scope),
        )


def _scope(replication: Replication, table: Table, window: tuple[str, str] | None) -> Scope:
    by = replication.partition_by
    if by is None and window is None:
        return Everything()
    if by is None:
        raise ConfigError(
            f"{table.id} is not read in windows, but a window is asked for",
            hint="give the table `partition_by`, or ask for all of it",
        )
    if window is None:
        raise ConfigError(
            f"{table.id} is read in windows, but none is given",
            detail=f"partition_by: {by.column}, every {by.every}",
            hint="choose the window to replace: a partition of this asset in Dagster",
        )
    _refuse_column(by, table)
    return Window(by.column, *window)


def _refuse_column(by: PartitionBy, table: Table) -> None:
    refuse_missing(table, "partition_by", [by.column])
    column = table.column(by.column)
    if column.type.name not in _WINDOW_TYPES:
        raise ConfigError(
            f"{table.id}: windows cannot be made of column {by.column}",
            detail=f"it is of type {column.type.display}",
            hint="`partition_by` needs a column of type date, timestamp or timestamp with time zone",
        )
    if column.type.name == "date" and by.every is WindowSize.HOUR:
        raise ConfigError(
            f"{table.id}: a date cannot be cut into hours",
            detail=f"partition_by: {by.column}, every {by.every}",
            hint="use `every: day` or longer",
        )


def _bounds(table: Table, scope: Scope) -> tuple[Bound, ...]:
    if not isinstance(scope, Window):
        return ()
    kind = f"pg_catalog.{table.column(scope.column).type.name}"
    return (
        Bound(scope.column, ">=", scope.start, kind),
        Bound(scope.column, "<", scope.end, kind),
    )


def _notes(table: Table, scope: Scope) -> list[str]:
    if isinstance(scope, Window) and table.column(scope.column).nullable:
        return [f"rows whose {scope.column} is NULL belong to no window and are not replicated"]
    return []
