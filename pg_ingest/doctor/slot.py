"""The slot of one database, and the replica identity of one table, whichever plugin reads them."""

from __future__ import annotations

from collections.abc import Mapping

from pg_ingest.config.log import LogConfig
from pg_ingest.doctor.finding import Finding, Test, failed, passed, skipped
from pg_ingest.errors import PgIngestError
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import usable_slot
from pg_ingest.table import Table, TableId


def check_slot(session: Session, log: LogConfig, subject: str, blocked: str) -> Finding:
    """Whether the slot can be read or made; `blocked`: why none could be made on this server."""
    name = log.slot_name(session.database)
    try:
        found = usable_slot(session, name, log.plugin)
    except PgIngestError as error:
        return failed(subject, Test.SLOT, error)
    if found is not None:
        fact = f"{found.name}, {found.behind:,} bytes of WAL kept for it"
        return passed(subject, Test.SLOT, fact)
    if blocked:
        return skipped(subject, Test.SLOT, blocked)
    return passed(subject, Test.SLOT, f"{name} will be made by the first sync")


def check_identity(subject: str, table: Table, bad: Mapping[TableId, PgIngestError]) -> Finding:
    """Whether the log can tell its old rows; `bad`: why not, by table."""
    if table.id in bad:
        return failed(subject, Test.REPLICA_IDENTITY, bad[table.id])
    columns = f" ({', '.join(table.identity_columns)})" if table.identity_columns else ""
    return passed(subject, Test.REPLICA_IDENTITY, f"{table.identity.value}{columns}")
