"""What Dagster shows about a table and about one load of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.table import Column, Table

Metadata = dict[str, Any]


def table_schema(table: Table, columns: Sequence[Column] | None = None) -> dg.TableSchema:
    """Columns of a source table with declared types, comments, NOT NULL and key membership."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.display,
                description=column.comment,
                constraints=_constraints(table, column),
            )
            for column in (table.columns if columns is None else columns)
        ]
    )


def selected_columns(replication: Replication, table: Table) -> list[Column]:
    """The columns of `table` that the configuration takes, in the table's order."""
    return [
        column
        for column in table.columns
        if (replication.columns is None or column.name in replication.columns)
        and column.name not in replication.exclude_columns
    ]


def _constraints(table: Table, column: Column) -> dg.TableColumnConstraints:
    other = []
    if column.name in table.primary_key:
        other.append("primary key")
    if column.generated:
        other.append("generated")
    return dg.TableColumnConstraints(
        nullable=column.nullable,
        unique=table.primary_key == (column.name,),
        other=other,
    )


def load_metadata(report: LoadReport, target: str) -> Metadata:
    """The facts of one load; absent facts are left out rather than shown as zero."""
    counts = report.counts
    facts: Metadata = {
        "dagster/row_count": counts.total,
        "dagster/table_name": target,
        "pg_ingest/inserted": counts.inserted,
        "pg_ingest/updated": counts.updated,
        "pg_ingest/deleted": counts.deleted,
        "pg_ingest/rejected": counts.rejected,
        "pg_ingest/rows_read": report.rows_read,
        "pg_ingest/bytes": report.bytes_read,
        "pg_ingest/duration_s": round(report.duration_s, 3),
        "pg_ingest/phase": report.phase,
    }
    if report.position_from:
        facts["pg_ingest/from"] = report.position_from
    if report.position_to:
        facts["pg_ingest/to"] = report.position_to
    if report.lag_bytes is not None:
        facts["pg_ingest/lag_bytes"] = report.lag_bytes
    if report.notes:
        facts["pg_ingest/notes"] = dg.MetadataValue.md("\n".join(f"- {n}" for n in report.notes))
    return facts
