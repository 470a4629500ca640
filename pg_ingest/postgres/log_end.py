"""Which log a server has, and how far.

A standby writes none; its log ends where it has replayed its primary's. Readers of the log see as far.
pg_last_wal_replay_lsn() moves on only after a record has had its whole effect, so one commit may be seen
already whose record is still behind that position: it begins there.
"""

from __future__ import annotations

import time

from pg_ingest.errors import SourceBusy
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.session import Session

_PAUSE = 0.02


def flushed_lsn(session: Session) -> Lsn:
    """How far the server's log is safe on its disk, and readers of the log can see; a standby: replayed."""
    asked = "pg_last_wal_replay_lsn()" if session.is_standby else "pg_current_wal_flush_lsn()"
    ((text,),) = session.rows(f"SELECT {asked}::text", what="asking for the WAL position")
    return Lsn.parse(text)


def after_all_seen(session: Session) -> Lsn:
    """A position of the log behind the commit of everything that anybody has seen here until now.

    At a primary it may not be on disk yet. A standby is asked until the record that it may be replaying is
    done, or it is known that there is none. Raises SourceBusy after `limits.query_timeout`.
    """
    if not session.is_standby:
        with session.snapshot() as now:
            return now.lsn
    first, received = _replayed(session)
    deadline = time.monotonic() + session.limits.query_timeout
    last = first
    while last == first and received != last:
        if time.monotonic() > deadline:
            raise SourceBusy(
                f"the standby of source {session.source} does not replay its log any further",
                detail=f"replayed to {last}, received to {received or 'nothing'}",
                hint="it is tried again; is its replay paused (pg_wal_replay_resume()), or its primary gone?",
            )
        time.sleep(_PAUSE)
        last, received = _replayed(session)
    return last


def _replayed(session: Session) -> tuple[Lsn, Lsn | None]:
    ((replayed, received),) = session.rows(
        "SELECT pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text",
        what="asking how far the standby is",
    )
    return Lsn.parse(replayed), None if received is None else Lsn.parse(received)


def system_identifier(session: Session) -> int:
    """The cluster's identity, which `initdb` draws and every physical copy of it shares."""
    ((number,),) = session.rows(
        "SELECT system_identifier FROM pg_control_system()", what="asking who the server is"
    )
    return int(number)
