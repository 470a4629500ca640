"""Making a slot by the replication protocol, on a standby.

A standby can say what is committed at a moment, and decode from there, only when its primary tells which
transactions run: in a record that the primary writes every 15 seconds while something is written there at all,
at a checkpoint, and when it is asked to (pg_log_standby_snapshot). Until one comes nothing happens; and where
transactions run, it takes up to three of them, the last when all that ran have ended. So this may take a
minute. It says what it waits for, ends with `limits.query_timeout`, and tells what would have helped. (An SQL
function could not: the server would cancel it without a word.)

What was begun is gone when its connection is: the server drops a temporary slot, and one that is not finished,
with the process that made it, however that ends.

Facts: manual, "Logical Decoding Concepts" (on a standby) and CREATE_REPLICATION_SLOT; LogStandbySnapshot in
src/backend/storage/ipc/standby.c, SnapBuildFindSnapshot in src/backend/replication/logical/snapbuild.c.
"""

from __future__ import annotations

import logging
import selectors
import time
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from pg_ingest.errors import MethodUnavailable, SourceBusy
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.faults import one_line, quoted, translated
from pg_ingest.postgres.session import Session

log = logging.getLogger(__name__)

_TELL_SECONDS = 5.0
"""How long nothing may happen before it is told what is waited for; then again three times as late."""

_LOOK_SECONDS = 0.2
_CANCEL_SECONDS = 10.0

NUDGE = "SELECT pg_log_standby_snapshot();"
"""What the primary is asked for the record. Superusers may, and whom they GRANT EXECUTE on it."""


@dataclass(frozen=True, slots=True)
class MadeSlot:
    """Where a new slot begins, and the snapshot that it exported, "" for none."""

    lsn: Lsn
    snapshot: str


def make_slot(
    connection: psycopg.Connection[Any],
    session: Session,
    name: str,
    plugin: str,
    *,
    temporary: bool = False,
    export: bool = False,
) -> MadeSlot:
    """Make a slot over a replication connection of `session`'s; raises what `translated` makes of a refusal.

    `export`: a snapshot of where the slot begins, which is there until the connection's next command.
    MethodUnavailable where the primary's log does not hold what is needed, or no slot is free; SourceBusy
    after `limits.query_timeout`.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    options = f"(SNAPSHOT '{'export' if export else 'nothing'}')"
    command = f"CREATE_REPLICATION_SLOT {quoted(name)} {kind} {quoted(plugin)} {options}"
    with translated(f"creating slot {name}", role=session.role):
        result = _answer(connection, command.encode(), session)
        if result.status != pq.ExecStatus.TUPLES_OK:
            error = error_from_result(result)
            _explain(error)
            raise error
    _, lsn, snapshot, *_ = (result.get_value(0, n) or b"" for n in range(result.nfields))
    return MadeSlot(Lsn.parse(lsn.decode()), snapshot.decode())


def _answer(
    connection: psycopg.Connection[Any], command: bytes, session: Session
) -> pq.abc.PGresult:
    pgconn = connection.pgconn
    began = time.monotonic()
    limit, told = session.limits.query_timeout, _TELL_SECONDS
    pgconn.send_query(command)
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ)
        while pgconn.flush() or pgconn.is_busy():
            selector.select(_LOOK_SECONDS)
            pgconn.consume_input()
            waited = time.monotonic() - began
            if waited >= limit:
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
                raise _waited(session, limit)
            if waited >= told:
                told = 3 * waited
                log.warning(
                    "waiting for the primary: database=%s seconds=%.0f; it says which transactions run"
                    " every 15 s while it is written to; %s there says it at once",
                    *(session.database, waited, NUDGE),
                )
    result = pgconn.get_result()
    if result is None:
        raise psycopg.OperationalError("the server answered nothing")
    return result


def _waited(session: Session, seconds: float) -> SourceBusy:
    return SourceBusy(
        f"the standby of source {session.source} was not told in time which transactions run",
        detail=f"waited {seconds:g} s; its primary says it every 15 s while something is written there, and"
        " all transactions that ran have to end",
        hint=f"it is tried again; if the primary is idle, run there: {NUDGE} (or let pg_cron do it every"
        " minute); if transactions run there for long, raise `limits.query_timeout`",
    )


def _explain(error: psycopg.Error) -> None:
    """Raise what a refusal means that stands for something else elsewhere."""
    words = one_line(error.diag.message_primary or "")
    if error.sqlstate == "55000" and "wal_level" in words:
        raise MethodUnavailable(
            "the primary's wal_level is not logical",
            detail=words,
            hint="on the primary: ALTER SYSTEM SET wal_level = logical; and restart it",
        )
    if error.sqlstate == "53400":
        raise MethodUnavailable(
            "all replication slots of the standby are taken",
            detail=f"{words}; while a table joins one more is needed, for a moment",
            hint="on the standby raise max_replication_slots and restart it, or drop those nobody needs",
        )
    if error.sqlstate == "40001" and "too large" in words:
        raise SourceBusy(
            "too many transactions ran at the primary while a snapshot was made",
            detail=words,
            hint="it is tried again",
        )
