"""The advice on several tables of one database, with what only the server can say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pg_ingest.config.log import Plugin
from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.errors import PgIngestError
from pg_ingest.methods.advice import advise
from pg_ingest.postgres.activity import read_activity
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot_creation import check_server, may_replicate
from pg_ingest.table import MethodAdvice, RelationKind, Table


def advised(session: Session, found: Sequence[tuple[Replication, Table]]) -> list[MethodAdvice]:
    """One for each table, in their order; two questions to the server for all of them."""
    if not found:
        return []
    activity = read_activity(session, [table for _, table in found])
    no_log = _no_log(session)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = []
    for replication, table in found:
        advice = advise(
            table,
            key=replication.key,
            no_log=""
            if replication.method is Method.LOG_BASED
            else no_log or _keyless(session, table),
            activity=activity.get(table.id),
        )
        impossible = tuple((method.value, why) for method, why in advice.impossible.items())
        given.append(MethodAdvice(table.id, advice.recommended.value, advice.why, impossible, now))
    return given


def _keyless(session: Session, table: Table) -> str:
    """Why a partitioned table would not join our publication, "" where it may or none is needed."""
    partitioned = table.kind is RelationKind.PARTITIONED and not table.primary_key
    if not partitioned or session.log.plugin is not Plugin.PGOUTPUT:
        return ""
    return "partitioned without a primary key: new partitions would have no replica identity"


def _no_log(session: Session) -> str:
    """Why no table can be followed by the log, "" where they can."""
    try:
        check_server(session)
    except PgIngestError as error:
        return error.message
    return "" if may_replicate(session) else f"user {session.role} may not read the log"
