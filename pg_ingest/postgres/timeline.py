"""Which history the server's log belongs to, and where it left others.

A promotion begins a new timeline: a copy of the log up to a point, from which on it is another log. A position
behind that point in the old log names something else in the new one, or nothing.

Which timeline is written now everybody may ask by SQL. Where the older ones ended stands in the history file
of the timeline, which the server hands out by the replication protocol: TIMELINE_HISTORY, over a connection
like that of the `stream` reader (manual, "Streaming Replication Protocol"; `readTimeLineHistory`, timeline.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from pg_ingest.errors import PermissionMissing
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.faults import translated
from pg_ingest.postgres.session import Session

_WRITTEN = """
SELECT ('x' || left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8))::bit(32)::int4
"""


def timeline_of(session: Session) -> int:
    """The timeline that the server writes; 0 for a standby, which writes none, and where the role may not ask.

    Everyone may, unless somebody revoked it.
    """
    if session.is_standby:
        return 0
    try:
        ((number,),) = session.rows(_WRITTEN, what="asking for the timeline")
    except PermissionMissing:
        return 0
    return int(number)


def ends_of_timelines(session: Session, timeline: int) -> Mapping[int, Lsn]:
    """For each timeline that `timeline` comes from, the position at which it was left.

    Over a second connection. Raises what connecting raises, and what `faults` makes of a refusal: the role may
    not replicate, or the server has thrown the history file away.
    """
    what = f"reading the history of timeline {timeline}"
    with translated(what, role=session.role):
        connection = session.replication_connection()
        try:
            text = _history(connection, timeline)
        finally:
            connection.close()
    return parse_history(text)


def _history(connection: psycopg.Connection[Any], timeline: int) -> str:
    result = connection.pgconn.exec_(f"TIMELINE_HISTORY {timeline}".encode())
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise error_from_result(result)
    content = result.get_value(0, 1)
    return "" if content is None else content.decode("utf-8", "replace")


def parse_history(text: str) -> Mapping[int, Lsn]:
    """The lines of a history file: timeline, position, and words; empty ones and comments mean nothing."""
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    return {int(line[0]): Lsn.parse(line[1]) for line in lines if not line[0].startswith("#")}
