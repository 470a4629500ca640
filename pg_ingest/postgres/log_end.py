"""Which log a server writes, and how far."""

from __future__ import annotations

from pg_ingest.lsn import Lsn
from pg_ingest.postgres.session import Session


def flushed_lsn(session: Session) -> Lsn:
    """How far the server's log is safe on its disk."""
    ((text,),) = session.rows(
        "SELECT pg_current_wal_flush_lsn()::text", what="asking for the WAL position"
    )
    return Lsn.parse(text)


def system_identifier(session: Session) -> int:
    """The cluster's identity, which `initdb` draws and every physical copy of it shares."""
    ((number,),) = session.rows(
        "SELECT system_identifier FROM pg_control_system()", what="asking who the server is"
    )
    return int(number)
