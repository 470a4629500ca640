"""What log-based replication of one database needs: the server's settings, our role, slot, publication."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pg_ingest.changelog.capture import PLUGIN
from pg_ingest.config.log import LogConfig
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import Finding, failed, passed, warning
from pg_ingest.errors import PermissionMissing, PgIngestError
from pg_ingest.postgres.catalog import read_database
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.publication import read_publication, refusals
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import check_server, may_replicate, usable_slot


def check_log(
    session: Session, log: LogConfig, replications: Sequence[Replication]
) -> Iterator[Finding]:
    """Findings about the slot and publication of the session's database; changes nothing."""
    subject = f"{session.source}/{session.database}"

    def role() -> str:
        if not may_replicate(session):
            raise PermissionMissing(
                f"user {session.role} may not read the log",
                hint=f"ALTER ROLE {quoted(session.role)} REPLICATION; (on Amazon RDS: GRANT"
                f" rds_replication TO {quoted(session.role)};)",
            )
        return "may read the log"

    def slot() -> str:
        found = usable_slot(session, log.slot_name(session.database), PLUGIN)
        if found is None:
            check_server(session)
            return f"{log.slot_name(session.database)} will be made by the first sync"
        return f"{found.name}, {found.behind:,} bytes of WAL kept for it"

    tests: tuple[tuple[str, Callable[[], str]], ...] = (("replication", role), ("slot", slot))
    for test, look in tests:
        try:
            yield passed(subject, test, look())
        except PgIngestError as error:
            yield failed(subject, test, error)
    yield from _publication(session, log, replications, subject)


def _publication(
    session: Session, log: LogConfig, replications: Sequence[Replication], subject: str
) -> Iterator[Finding]:
    name = log.publication
    try:
        found = read_publication(session, name)
        tables = read_database(session, only=[each.table for each in replications]).tables
        operations = None if found is None or found.ours else found.operations
        args = () if operations is None else (operations,)
        refused = refusals(session, tables, *args)
    except PgIngestError as error:
        yield failed(subject, "publication", error)
        return
    for table, refusal in refused.items():
        yield failed(f"{subject}/{table}", "replica identity", refusal)
    if found is None:
        yield passed(subject, "publication", f"{name} will be made by the first sync")
        return
    missing = sorted(str(t.id) for t in tables if t.id not in found.tables and t.id not in refused)
    if missing and not found.ours:
        yield warning(
            subject,
            "publication",
            f"{name} is not ours and does not carry {', '.join(missing[:5])}",
            f"ALTER PUBLICATION {quoted(name)} ADD TABLE …",
        )
    elif found.missing_operations:
        left_out = ", ".join(found.missing_operations)
        yield warning(subject, "publication", f"{name} does not carry {left_out}")
    else:
        yield passed(subject, "publication", f"{name}, {len(found.tables)} tables")
