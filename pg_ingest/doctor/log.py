"""What log-based replication needs in one database: slot, publication, and tables that may be published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pg_ingest.config.log import LogConfig, Plugin
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import (
    Finding,
    Test,
    failed,
    passed,
    refused,
    skipped,
    warning,
)
from pg_ingest.doctor.slot import check_identity, check_slot
from pg_ingest.doctor.wal2json import check_wal2json
from pg_ingest.errors import MethodUnavailable, PgIngestError
from pg_ingest.following.publish_log import unpublishable
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.publication import (
    Publication,
    add_tables,
    create_publication,
    read_publication,
)
from pg_ingest.postgres.publishable import endangered
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot_creation import check_kind
from pg_ingest.postgres.table_facts import may_publish
from pg_ingest.table import Table, TableId


def check_log(
    session: Session,
    log: LogConfig,
    logged: Sequence[tuple[Replication, Table]],
    *,
    blocked: str = "",
) -> Iterator[Finding]:
    """Findings about the slot and publication of the session's database; changes nothing.

    `blocked`: why no slot could be made on this server whatever its name.
    """
    subject = f"{session.source}/{session.database}"
    try:
        check_kind(session)
    except MethodUnavailable:
        yield skipped(subject, Test.SLOT, blocked)
        yield skipped(subject, Test.PUBLICATION, blocked)
        return
    if log.plugin is Plugin.WAL2JSON:
        yield from check_wal2json(session, log, logged, blocked=blocked)
        return
    yield check_slot(session, log, subject, blocked)
    try:
        found = read_publication(session, log.publication)
        tables = [table for _, table in logged]
        bad = unpublishable(session, found, tables, {table.id: r for r, table in logged})
        risky = endangered(session, found, tables)
    except PgIngestError as error:
        yield failed(subject, Test.PUBLICATION, error)
        return
    good = [table for table in tables if table.id not in bad]
    yield _publication(session, log, found, good, subject)
    for table in tables:
        yield _identity(f"{subject}/{table.id}", table, bad, risky)
        if found is not None and table.id not in bad:
            yield _published(session, found, table, f"{subject}/{table.id}")


def _publication(
    session: Session,
    log: LogConfig,
    found: Publication | None,
    good: Sequence[Table],
    subject: str,
) -> Finding:
    name = log.publication
    if found is None:
        if session.is_standby:
            return refused(
                subject,
                Test.PUBLICATION,
                f"publication {name} does not exist, and a standby cannot make it",
                f"on the primary, the owner of the tables:"
                f" {create_publication(name, good, session.server_version)};",
            )
        if may_publish(session, good):
            return passed(subject, Test.PUBLICATION, f"{name} will be made by the first sync")
        return refused(
            subject,
            Test.PUBLICATION,
            f"publication {name} does not exist, and user {session.role} may not make it",
            f"let the owner of the tables run: {create_publication(name, good, session.server_version)};",
            "publishing a table takes its owner, with CREATE on the database",
        )
    if found.missing_operations:
        left_out = ", ".join(found.missing_operations)
        careful = "" if found.operations & {"update", "delete"} else _CAREFUL
        return warning(
            subject,
            Test.PUBLICATION,
            f"{name} does not carry {left_out}: they will not arrive",
            f"{careful}ALTER PUBLICATION {quoted(name)} SET"
            " (publish = 'insert, update, delete, truncate');",
        )
    return passed(subject, Test.PUBLICATION, f"{name}, {len(found.tables)} tables")


_CAREFUL = (
    "first give every table in it a primary key or a REPLICA IDENTITY, or the server will refuse the"
    " application's UPDATE and DELETE; then "
)


def _identity(
    subject: str,
    table: Table,
    bad: Mapping[TableId, PgIngestError],
    risky: Mapping[TableId, PgIngestError],
) -> Finding:
    if table.id in bad or table.id not in risky:
        return check_identity(subject, table, bad)
    error = risky[table.id]
    return warning(subject, Test.REPLICA_IDENTITY, error.message, error.hint, error.detail)


def _published(session: Session, found: Publication, table: Table, subject: str) -> Finding:
    if table.id in found.tables:
        return passed(subject, Test.PUBLISHED, f"in publication {found.name}")
    if found.ours and not found.all_tables and may_publish(session, [table]):
        return passed(subject, Test.PUBLISHED, "will be added by the next sync")
    return refused(
        subject,
        Test.PUBLISHED,
        f"publication {found.name} does not carry it",
        f"{'on the primary, ' if session.is_standby else ''}let its owner run:"
        f" {add_tables(found.name, [table])};",
        "" if found.via_root else "the publication publishes partitions, not their roots",
    )
