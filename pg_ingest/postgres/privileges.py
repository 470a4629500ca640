"""The GRANT a person is asked to run for single columns."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pg_ingest.table import TableId


def grant_columns(table: TableId, columns: Sequence[str], role: str) -> str:
    """The statement that lets `role` read these columns of `table`."""
    return (
        sql.SQL("GRANT SELECT ({}) ON {} TO {};")
        .format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.Identifier(table.schema, table.name),
            sql.Identifier(role),
        )
        .as_string(None)
    )
