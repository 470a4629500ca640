"""The publication of one database in step with its log-based tables; one bad table keeps nobody out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_ingest.config.selection import Replication
from pg_ingest.errors import PermissionMissing, PgIngestError, SlotUnusable
from pg_ingest.postgres.publication import (
    Narrowed,
    Publication,
    keep_publication,
    read_narrowed,
    refusals,
)
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId


def unpublishable(
    session: Session,
    now: Publication | None,
    tables: Sequence[Table],
    replications: Mapping[TableId, Replication],
) -> dict[TableId, PgIngestError]:
    """Why some of the tables must not be in this publication (None: in one that we make)."""
    if now is None or now.ours:
        return dict(refusals(session, tables))
    found: dict[TableId, PgIngestError] = dict(refusals(session, tables, now.operations))
    narrowed = read_narrowed(session, now.name)
    for table in tables:
        if table.id in narrowed and table.id not in found:
            try:
                _check_whole(now.name, replications[table.id], table, narrowed[table.id])
            except SlotUnusable as error:
                found[table.id] = error
    return found


def _check_whole(
    publication: str, replication: Replication, table: Table, narrowed: Narrowed
) -> None:
    """Raise SlotUnusable when changes of rows or columns that we want are not published."""
    columns = [
        column.name
        for column in table.columns
        if not column.generated
        and column.name not in replication.exclude_columns
        and (replication.columns is None or column.name in replication.columns)
    ]
    missing = [name for name in columns if name not in narrowed.columns]
    if missing or narrowed.filtered:
        what = (
            f"lacks its columns {', '.join(missing[:5])}" if missing else "has a row filter for it"
        )
        raise SlotUnusable(
            f"publication {publication} carries only a part of {table.id}",
            detail=f"it {what}; changes of the rest would be missed without a word",
            hint="publish the whole table, or leave the columns out with `exclude_columns`",
        )


def publish(
    session: Session, name: str, now: Publication | None, good: Mapping[TableId, Table]
) -> tuple[Publication, dict[TableId, PgIngestError]]:
    """Keep the publication, and tell which of the tables it cannot carry, and why.

    Raises PermissionMissing when we may not make it at all.
    """
    if now is not None and not (now.ours and not now.all_tables):
        return now, _lacking(session, now, good)
    try:
        return keep_publication(session, name, list(good.values())), {}
    except PermissionMissing:
        if now is None:
            raise
        return _one_by_one(session, now, good)


def _lacking(
    session: Session, now: Publication, good: Mapping[TableId, Table]
) -> dict[TableId, PgIngestError]:
    found: dict[TableId, PgIngestError] = {}
    for table in good.values():
        try:
            keep_publication(session, now.name, [table])
        except SlotUnusable as error:
            found[table.id] = error
    return found


def _one_by_one(
    session: Session, now: Publication, good: Mapping[TableId, Table]
) -> tuple[Publication, dict[TableId, PgIngestError]]:
    refused: dict[TableId, PgIngestError] = {}
    kept = {table: good[table] for table in good if table in now.tables}
    result = keep_publication(session, now.name, list(kept.values()))
    for table in (good[each] for each in good if each not in kept):
        try:
            result = keep_publication(session, now.name, [*kept.values(), table])
            kept[table.id] = table
        except PermissionMissing as error:
            refused[table.id] = error
    return result, refused
