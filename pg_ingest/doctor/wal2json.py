"""What the plugin wal2json needs beside a slot: to be allowed, and tables whose changes it can list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_ingest.config.log import LogConfig
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import Finding, Test, Verdict, failed, passed, refused, skipped
from pg_ingest.doctor.slot import check_identity, check_slot
from pg_ingest.errors import PgIngestError
from pg_ingest.following.list_log import unlistable
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import read_slot
from pg_ingest.postgres.slot_creation import allow_plugin, plugin_allowed
from pg_ingest.table import Table


def check_wal2json(
    session: Session,
    log: LogConfig,
    logged: Sequence[tuple[Replication, Table]],
    *,
    blocked: str = "",
) -> Iterator[Finding]:
    """Findings about plugin, slot and tables of the session's database; as `check_log`."""
    subject = f"{session.source}/{session.database}"
    try:
        name = log.slot_name(session.database)
        there = read_slot(session, name) is not None
        plugin = _plugin(session, log, subject, there=there)
        yield plugin
        if plugin.verdict is Verdict.FAILED:
            blocked = blocked or "because the plugin may not be used"
        slot = check_slot(session, log, subject, blocked)
        yield slot
        there = there and slot.verdict is Verdict.PASSED
        replications = {table.id: replication for replication, table in logged}
        tables = [table for _, table in logged]
        bad = unlistable(session, name if there else None, tables, replications)
    except PgIngestError as error:
        yield failed(subject, Test.PLUGIN, error)
        return
    for table in tables:
        yield check_identity(f"{subject}/{table.id}", table, bad)


def _plugin(session: Session, log: LogConfig, subject: str, *, there: bool) -> Finding:
    allowed = True if there else plugin_allowed(session, log.plugin)
    if allowed:
        return passed(subject, Test.PLUGIN, f"{log.plugin} may be used")
    if allowed is None:
        why = "because only pg_read_all_settings sees output_plugin_libraries; the first sync will tell"
        return skipped(subject, Test.PLUGIN, why)
    fact = f"user {session.role} may not use the output plugin {log.plugin}"
    return refused(subject, Test.PLUGIN, fact, allow_plugin(log.plugin))
