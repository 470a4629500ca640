"""The statements that let our role do one thing each.

They stand here once: an error's hint, the doctor and the script for the administrator print the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from pg_ingest.postgres.provider import Provider
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


def grant_table(table: TableId, role: str, privileges: str = "SELECT") -> str:
    """The statement that lets `role` read the whole table, or do what `privileges` lists."""
    return _text(
        f"GRANT {privileges} ON {{}} TO {{}};",
        sql.Identifier(table.schema, table.name),
        sql.Identifier(role),
    )


def grant_usage(schema: str, role: str) -> str:
    """The statement that lets `role` see into a schema."""
    return _text("GRANT USAGE ON SCHEMA {} TO {};", sql.Identifier(schema), sql.Identifier(role))


def grant_connect(database: str, role: str) -> str:
    """The statement that lets `role` connect to a database."""
    return _text(
        "GRANT CONNECT ON DATABASE {} TO {};", sql.Identifier(database), sql.Identifier(role)
    )


def grant_replication(role: str, provider: Provider) -> str:
    """The statement that lets `role` make and read replication slots."""
    if provider in (Provider.RDS, Provider.AURORA):
        return _text("GRANT rds_replication TO {};", sql.Identifier(role))
    return _text("ALTER ROLE {} REPLICATION;", sql.Identifier(role))


def grant_bypass(role: str) -> str:
    """The statement that lets `role` read all rows of a table with row-level security."""
    return _text("ALTER ROLE {} BYPASSRLS;", sql.Identifier(role))


def grant_future(owner: str, schema: str, role: str) -> str:
    """The statement that lets `role` read the tables that `owner` will make in a schema."""
    return _text(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT SELECT ON TABLES TO {};",
        sql.Identifier(owner),
        sql.Identifier(schema),
        sql.Identifier(role),
    )


def _text(template: str, *parts: sql.Composable) -> str:
    return sql.SQL(template).format(*parts).as_string(None)
