"""Rows to measure the way to a server with; nobody keeps them."""

from __future__ import annotations

from psycopg import sql

from pg_ingest.postgres.select import SelectQuery
from pg_ingest.table import TableId

_ROW = 1000


def filling_rows(size: int) -> SelectQuery:
    """About `size` bytes of rows that the server makes up: it reads nothing from its disk."""
    statement = sql.SQL(
        "SELECT pg_catalog.repeat('x', {}) FROM pg_catalog.generate_series(1, {})"
    ).format(sql.Literal(_ROW), sql.Literal(max(1, size // _ROW)))
    return SelectQuery(TableId("pg_catalog", "generate_series"), statement, ())
