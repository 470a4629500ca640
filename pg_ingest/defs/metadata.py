"""What Dagster shows about a table and about one load of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.table import Column, Table

if TYPE_CHECKING:
    from pg_ingest.following.capture_log import LogCapture
    from pg_ingest.postgres.slot import Slot

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


def capture_metadata(capture: LogCapture, seconds: float) -> Metadata:
    """The facts of one capture; `rows` are changes of all tables."""
    captured = capture.captured
    facts: Metadata = {
        "pg_ingest/rows": captured.rows,
        "pg_ingest/transactions": captured.transactions,
        "pg_ingest/bytes": captured.bytes,
        "pg_ingest/from": str(capture.begun_at),
        "pg_ingest/to": str(captured.position),
        "pg_ingest/lag_bytes": capture.behind,
        "pg_ingest/tables": len(capture.since),
        "pg_ingest/stored_bytes": sum(segment.size for segment in captured.segments),
        "pg_ingest/duration_s": round(seconds, 3),
    }
    if capture.slot is not None:
        facts |= slot_metadata(capture.slot)
    if capture.absent:
        facts["pg_ingest/absent"] = sorted(map(str, capture.absent))
    if capture.notes:
        facts["pg_ingest/notes"] = dg.MetadataValue.md("\n".join(f"- {n}" for n in capture.notes))
    return facts


def slot_metadata(slot: Slot) -> Metadata:
    """A slot's state; `retained_bytes` is the WAL that the server keeps for it."""
    facts: Metadata = {"pg_ingest/slot": slot.name, "pg_ingest/retained_bytes": slot.behind}
    if slot.wal_status is not None:
        facts["pg_ingest/wal_status"] = slot.wal_status
    if slot.safe_wal_size is not None:
        facts["pg_ingest/safe_wal_size"] = slot.safe_wal_size
    if slot.inactive_since is not None:
        facts["pg_ingest/inactive_since"] = slot.inactive_since
    return facts
