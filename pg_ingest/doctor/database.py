"""One database of a source: its encoding, its tables, its rights, and its log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pg_ingest.config.model import Method, SourceConfig
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.advice import check_methods
from pg_ingest.doctor.finding import Finding, Test, failed, passed, refused, skipped, warning
from pg_ingest.doctor.heartbeat import check_heartbeat
from pg_ingest.doctor.log import check_log
from pg_ingest.doctor.next_load import Stored, check_next_load
from pg_ingest.doctor.subject import Subject
from pg_ingest.doctor.tables import check_table
from pg_ingest.errors import PgIngestError
from pg_ingest.postgres.privileges import grant_future, grant_usage
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server_state import server_settings
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.table_facts import closed_futures, closed_schemas, table_facts
from pg_ingest.table import Column, DatabaseCatalog, Table


@dataclass(frozen=True)
class Visit:
    """What is looked at in one database.

    Attributes:
        catalog: as it was read just now.
        replications: all of the source; `absent`: those that only other databases have.
        blocked: why no table can be followed by the log on this server.
        stored: the bookmarks of what the destination has.
        readable: collects the tables that can be read, with their columns.
    """

    session: Session
    settings: SourceConfig
    provider: Provider
    catalog: DatabaseCatalog
    replications: Sequence[Replication]
    absent: Sequence[Replication]
    blocked: str = ""
    stored: Stored = field(default_factory=dict)
    readable: list[tuple[Table, tuple[Column, ...]]] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """`shop/app`."""
        return f"{self.session.source}/{self.session.database}"


def check_database(visit: Visit) -> Iterator[Finding]:
    """All findings of one database, tables included."""
    session = visit.session
    yield _encoding(visit)
    here = [each for each in visit.replications if each not in visit.absent]
    found = [(r, table) for r in here if (table := visit.catalog.table(r.table)) is not None]
    try:
        facts = table_facts(session, [table for _, table in found])
        yield from _schemas(visit, [table for _, table in found])
        yield from _future(visit, found)
    except PgIngestError as error:
        yield failed(visit.subject, Test.TABLES, error)
        return
    logged = [(r, table) for r, table in found if r.method is Method.LOG_BASED]
    if logged:
        yield from check_log(session, visit.settings.log, logged, blocked=visit.blocked)
        yield from check_heartbeat(session, visit.settings.log)
    for replication in visit.absent:
        subject = f"{visit.subject}/{replication.table}"
        yield skipped(
            subject, Test.TABLE, "because this database does not have it, another one has"
        )
    for replication in here:
        table = visit.catalog.table(replication.table)
        known = facts.get(replication.table)
        one = Subject(session, replication, visit.provider, table, known)
        yield from check_table(one, visit.readable)
    yield from check_methods(session, found)
    yield from check_next_load(
        *(session.source, session.database, found, visit.stored), standby=session.is_standby
    )


def _encoding(visit: Visit) -> Finding:
    encoding = server_settings(visit.session).values.get("server_encoding", "unknown")
    if encoding != "SQL_ASCII":
        return passed(visit.subject, Test.ENCODING, encoding)
    return warning(
        visit.subject,
        Test.ENCODING,
        "SQL_ASCII: its texts may be any bytes, and rows with bytes that are not UTF-8 are set aside",
        "keep an eye on _pgi.rejected; the cure is a new database with ENCODING 'UTF8', filled by"
        " pg_dump and pg_restore",
    )


def _schemas(visit: Visit, tables: Sequence[Table]) -> Iterator[Finding]:
    for schema in closed_schemas(visit.session, tables):
        yield refused(
            visit.subject,
            Test.SCHEMA_USAGE,
            f"user {visit.session.role} may not look into schema {schema}",
            grant_usage(schema, visit.session.role),
        )


def _future(visit: Visit, found: Sequence[tuple[Replication, Table]]) -> Iterator[Finding]:
    """Tables to come are only expected where a pattern or `select_all` takes them."""
    named = visit.settings.tables
    open_ended = [table for r, table in found if str(r.table) not in named]
    if not open_ended:
        return
    closed = closed_futures(visit.session, open_ended)
    for owner, schema in closed:
        yield warning(
            visit.subject,
            Test.DEFAULT_PRIVILEGES,
            f"tables that {owner} will make in schema {schema} will not be readable",
            grant_future(owner, schema, visit.session.role),
        )
    if not closed:
        yield passed(visit.subject, Test.DEFAULT_PRIVILEGES, "tables to come will be readable")
