"""One source: can it be reached, entered and read, in each of its databases?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pg_ingest.config.model import IngestConfig, Method, SourceConfig, TlsMode
from pg_ingest.config.selection import Replication, Selection, select
from pg_ingest.doctor.finding import Finding, failed, passed, skipped, warning
from pg_ingest.doctor.log import check_log
from pg_ingest.doctor.tables import check_table
from pg_ingest.errors import ConfigError, PgIngestError
from pg_ingest.postgres.catalog import read_database
from pg_ingest.postgres.discovery import matching_databases
from pg_ingest.postgres.session import Server, Session
from pg_ingest.table import DatabaseCatalog, SourceCatalog

OLDEST = 90_400
"""`server_version_num` below which nothing works here."""

FULLY_SUPPORTED = 100_000


def check_source(config: IngestConfig, source: str) -> Iterator[Finding]:
    """All findings of one source; connects to each of its databases, changes nothing."""
    settings = config.sources[source]
    yield from _settings(source, settings)
    server = Server(source, settings, retry_delays=())
    try:
        databases = matching_databases(server, settings.databases)
    except PgIngestError as error:
        yield failed(source, "databases", error)
        yield skipped(source, "tables", "no list of databases, so no table was looked at")
        return
    if not databases:
        yield warning(source, "databases", "no database fits the patterns", "look at `databases`")
    seen: list[DatabaseCatalog] = []
    for database in databases:
        yield from _database(server, database, seen)
    if not seen:
        yield skipped(source, "tables", "no database could be entered")
        return
    selection, findings = _selection(config, source, seen)
    yield from findings
    for catalog in seen:
        yield from _tables(server, catalog, selection, seen)


def _settings(source: str, settings: SourceConfig) -> Iterator[Finding]:
    if settings.password is None:
        yield passed(source, "password", "none configured (trust, peer or a password file)")
    elif settings.password.is_literal:
        yield warning(
            source,
            "password",
            "stands in the configuration as text",
            f"write {{env: {source.upper()}_PASSWORD}} or {{file: path}} instead",
        )
    else:
        yield passed(source, "password", f"from {settings.password.place}")
    local = settings.host.startswith("/") or settings.host in ("localhost", "127.0.0.1", "::1")
    mode = settings.tls.mode if settings.tls else TlsMode.PREFER
    verified = (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)
    if mode in verified or local:
        yield passed(source, "tls", f"mode {mode.value}")
    else:
        yield warning(
            source,
            "tls",
            f"mode {mode.value} does not verify the server's certificate",
            "tls: {mode: verify-full, root_cert: …} proves that it is the server",
        )


def _database(server: Server, database: str, seen: list[DatabaseCatalog]) -> Iterator[Finding]:
    subject = f"{server.source}/{database}"
    try:
        with server.session(database, purpose="check") as session:
            yield _version(subject, session)
            if session.server_version >= OLDEST:
                seen.append(read_database(session))
    except PgIngestError as error:
        yield failed(subject, "connection", error)


def _version(subject: str, session: Session) -> Finding:
    number = session.server_version
    major = f"{number // 10_000}.{number % 10_000}"
    if number < FULLY_SUPPORTED:
        major = f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    fact = f"PostgreSQL {major} as {session.role}"
    if session.is_standby:
        fact += ", a standby"
    if number < OLDEST:
        error = ConfigError(f"{fact} is too old", hint="PostgreSQL 9.4 is the oldest that can work")
        return failed(subject, "connection", error)
    if number < FULLY_SUPPORTED:
        return warning(subject, "connection", f"{fact}: older than 10, best effort only")
    return passed(subject, "connection", fact)


def _selection(
    config: IngestConfig, source: str, seen: Iterable[DatabaseCatalog]
) -> tuple[Selection, list[Finding]]:
    """What is replicated as things are now; where that makes no sense, at least the named tables."""
    try:
        catalog = SourceCatalog(source, "", tuple(seen))
        selection = select(config, source, catalog)
    except ConfigError as error:
        return select(config, source, None), [failed(source, "selection", error)]
    found = f"{len(selection.replications)} tables"
    warned = [warning(source, "selection", text) for text in selection.warnings]
    return selection, [passed(source, "selection", found), *warned]


def _tables(
    server: Server,
    catalog: DatabaseCatalog,
    selection: Selection,
    seen: Sequence[DatabaseCatalog],
) -> Iterator[Finding]:
    here: list[Replication] = []
    for replication in selection.replications:
        elsewhere = any(one.table(replication.table) for one in seen)
        if catalog.table(replication.table) is None and elsewhere:
            subject = f"{server.source}/{catalog.database}/{replication.table}"
            yield skipped(subject, "table", "this database does not have it")
        else:
            here.append(replication)
    try:
        with server.session(catalog.database, purpose="check") as session:
            logged = [each for each in here if each.method is Method.LOG_BASED]
            if logged:
                yield from check_log(session, server.config.log, logged)
            for replication in here:
                yield from check_table(session, replication)
    except PgIngestError as error:
        yield failed(f"{server.source}/{catalog.database}", "connection", error)
