"""The table that heartbeats are written to, where the configuration asks for one."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.log import HeartbeatMode, LogConfig
from pg_ingest.doctor.finding import Finding, Test, failed, passed, refused, warning
from pg_ingest.errors import PgIngestError
from pg_ingest.postgres.heartbeat import HEARTBEAT_AT_PRIMARY
from pg_ingest.postgres.heartbeat_table import HEARTBEAT_PRIVILEGES, create_heartbeat, lacking
from pg_ingest.postgres.privileges import grant_table, grant_usage
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId


def check_heartbeat(session: Session, log: LogConfig) -> Iterator[Finding]:
    """Whether the table is there and may be written; nothing where none is configured."""
    subject = f"{session.source}/{session.database}"
    if log.heartbeat is not None and session.is_standby:
        fact = "a standby cannot be written to, so it has no heartbeat"
        yield warning(subject, Test.HEARTBEAT, fact, HEARTBEAT_AT_PRIMARY)
        return
    if log.heartbeat is None or log.heartbeat.mode is not HeartbeatMode.TABLE:
        return
    table = TableId.parse(str(log.heartbeat.table))
    try:
        missing = lacking(session, table)
    except PgIngestError as error:
        yield failed(subject, Test.HEARTBEAT, error)
        return
    grants = {
        "USAGE": grant_usage(table.schema, session.role),
        HEARTBEAT_PRIVILEGES: grant_table(table, session.role, HEARTBEAT_PRIVILEGES),
    }
    if missing is None:
        hint = " ".join((create_heartbeat(table), *grants.values()))
        yield refused(subject, Test.HEARTBEAT, f"table {table} does not exist", hint)
    elif missing:
        hint = " ".join(grants[name] for name in missing)
        fact = f"user {session.role} may not write to {table}"
        yield refused(subject, Test.HEARTBEAT, fact, hint)
    else:
        yield passed(subject, Test.HEARTBEAT, f"{table} may be written")
