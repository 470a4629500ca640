"""The table for `log.heartbeat: {mode: table}`: how it is made, and what our role lacks on it."""

from __future__ import annotations

from psycopg import sql

from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId

HEARTBEAT_PRIVILEGES = "SELECT, INSERT, UPDATE"
"""One row per source, put in once and then brought up to date (INSERT … ON CONFLICT DO UPDATE)."""


def create_heartbeat(table: TableId) -> str:
    """The statement that makes the table; running it twice is harmless."""
    return (
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {}"
            " (source text PRIMARY KEY, beaten_at timestamptz NOT NULL);"
        )
        .format(sql.Identifier(table.schema, table.name))
        .as_string(None)
    )


_PRIVILEGES = """
SELECT has_schema_privilege(n.oid, 'usage'), has_table_privilege(c.oid, 'select')
  AND has_table_privilege(c.oid, 'insert') AND has_table_privilege(c.oid, 'update')
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""


def lacking(session: Session, table: TableId) -> tuple[str, ...] | None:
    """`USAGE` and HEARTBEAT_PRIVILEGES, as far as our role lacks them; None without such a table."""
    found = session.rows(
        _PRIVILEGES, (table.schema, table.name), what=f"looking at heartbeat table {table}"
    )
    if not found:
        return None
    ((usage, write),) = found
    return tuple(
        name for name, held in (("USAGE", usage), (HEARTBEAT_PRIVILEGES, write)) if not held
    )
