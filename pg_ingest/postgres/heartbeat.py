"""Something in the log of a server to which nobody writes.

A slot needs no heartbeat to move: whoever reads everything up to the end of the log may confirm that end,
whatever database the log was about. On a server where nothing at all is written the end stands still, and so
does everything that is measured by it; a logical message makes it go on, without any table. Where a role may
not emit messages, the row of this source in a table does, which an administrator makes
(`heartbeat_table.create_heartbeat`).
"""

from __future__ import annotations

from psycopg import sql

from pg_ingest.errors import PermissionMissing, QueryRefused, SourceTableChanged
from pg_ingest.postgres.heartbeat_table import HEARTBEAT_PRIVILEGES, create_heartbeat
from pg_ingest.postgres.privileges import grant_table, grant_usage
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId

_MESSAGE = sql.SQL("SELECT pg_catalog.pg_logical_emit_message(true, 'pg_ingest', 'heartbeat')")
_ROW = sql.SQL(
    "INSERT INTO {table} AS t (source, beaten_at) VALUES ({source}, pg_catalog.clock_timestamp())"
    " ON CONFLICT (source) DO UPDATE SET beaten_at = excluded.beaten_at"
)


HEARTBEAT_AT_PRIMARY = (
    "take `log.heartbeat` out of the configuration; where the primary is idle, let something write there"
    " (pg_cron: SELECT pg_logical_emit_message(true, 'pg_ingest', 'heartbeat');)"
)
"""What to do instead, where the source is a standby."""


def beat(session: Session, table: TableId | None = None) -> None:
    """Write and commit a logical message, which readers of the log pass over, or this source's row of `table`.

    Raises SourceTableChanged when the table is missing or not of that form, PermissionMissing.
    """
    if table is None:
        session.change([_MESSAGE], what="writing a heartbeat")
        return
    name = sql.Identifier(table.schema, table.name)
    row = _ROW.format(table=name, source=sql.Literal(session.source))
    grants = (
        f"{grant_usage(table.schema, session.role)}"
        f" {grant_table(table, session.role, HEARTBEAT_PRIVILEGES)}"
    )
    try:
        session.change([row], what=f"writing a heartbeat to {table}")
    except PermissionMissing as error:
        raise PermissionMissing(error.message, detail=error.detail, hint=grants) from None
    except (SourceTableChanged, QueryRefused) as error:
        raise SourceTableChanged(
            f"the heartbeat table {table} of database {session.database} cannot be written",
            detail=error.detail,
            hint=f"{create_heartbeat(table)} {grants}",
        ) from None
