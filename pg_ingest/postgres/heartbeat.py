"""Something in the log of a server to which nobody writes.

A slot needs no heartbeat to move: whoever reads everything up to the end of the log may confirm that end,
whatever database the log was about. On a server where nothing at all is written the end stands still, and so
does everything that is measured by it; a logical message makes it go on, without any table.
"""

from __future__ import annotations

from psycopg import sql

from pg_ingest.postgres.session import Session

_MESSAGE = sql.SQL("SELECT pg_catalog.pg_logical_emit_message(true, 'pg_ingest', 'heartbeat')")


def beat(session: Session) -> None:
    """Write and commit a logical message, which readers of the log pass over."""
    session.change([_MESSAGE], what="writing a heartbeat")
