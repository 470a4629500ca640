"""One source: the way to it, the server, and each of its databases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pg_ingest.config.model import IngestConfig, Method, SourceConfig
from pg_ingest.config.selection import Selection, select
from pg_ingest.doctor.database import Visit, check_database
from pg_ingest.doctor.finding import Finding, Test, Verdict, failed, passed, skipped, warning
from pg_ingest.doctor.next_load import Stored, stored_bookmarks
from pg_ingest.doctor.reach import check_encryption, check_pooler, check_way, login_finding
from pg_ingest.doctor.server import check_identity, check_room
from pg_ingest.doctor.speed import check_speed
from pg_ingest.doctor.wal import check_wal
from pg_ingest.errors import ConfigError, PgIngestError
from pg_ingest.postgres.catalog import read_database
from pg_ingest.postgres.discovery import matching_databases
from pg_ingest.postgres.provider import Provider, recognise
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import read_slot
from pg_ingest.postgres.slot_creation import check_kind
from pg_ingest.table import DatabaseCatalog, SourceCatalog

_BLOCKING = {
    Test.WAL_LEVEL: "because the server's wal_level is not logical",
    Test.REPLICATION: "because the user may not read the log",
    Test.SLOTS: "because the server has no slot left",
    Test.STANDBY_LOG: "because the standby does not tell its primary what it needs",
}
"""Failures of the server without which no slot can be made, and what is said of the slots then."""


@dataclass
class _Examination:
    """What has been learnt of one source so far."""

    config: IngestConfig
    source: str
    server: Server
    stored: Stored
    seen: list[DatabaseCatalog] = field(default_factory=list)
    provider: Provider = Provider.PLAIN
    blocked: str = ""

    @property
    def settings(self) -> SourceConfig:
        return self.config.sources[self.source]


def check_source(config: IngestConfig, source: str) -> Iterator[Finding]:
    """All findings of one source; connects to each of its databases, changes nothing."""
    server = Server(source, config.sources[source], retry_delays=())
    state = _Examination(config, source, server, stored_bookmarks(config))
    why = yield from check_way(source, state.settings)
    if why:
        yield skipped(source, Test.TABLES, why)
        return
    yield from _enter_all(state)
    if not state.seen:
        yield skipped(source, Test.TABLES, "because no database could be entered")
        return
    selection, findings = _selection(config, source, state.seen)
    yield from findings
    for number, catalog in enumerate(state.seen):
        yield from _look(state, catalog, selection, first=number == 0)


def _enter_all(state: _Examination) -> Iterator[Finding]:
    """Log in to each database and read its catalogue; a refused login is not tried again."""
    try:
        databases = matching_databases(state.server, state.settings.databases)
    except PgIngestError as error:
        yield login_finding(state.source, error)
        yield skipped(state.source, Test.DATABASES, "because the list of databases cannot be read")
        return
    if not databases:
        yield warning(
            state.source, Test.DATABASES, "no database fits the patterns", "look at `databases`"
        )
    refused = False
    for database in databases:
        subject = f"{state.source}/{database}"
        if refused:
            yield skipped(subject, Test.LOGIN, "because the login was refused before")
            continue
        try:
            with state.server.session(database, purpose="check") as session:
                yield passed(subject, Test.LOGIN, f"as {session.role}")
                if not state.seen:
                    yield from _first_look(state, session)
                state.seen.append(read_database(session))
        except PgIngestError as error:
            finding = login_finding(subject, error)
            refused = finding.test in (Test.LOGIN, Test.ENCRYPTION, Test.HOST)
            yield finding


def _first_look(state: _Examination, session: Session) -> Iterator[Finding]:
    state.provider = recognise(session)
    yield check_encryption(state.source, state.settings, session)
    yield from check_pooler(state.source, state.settings, session)
    yield from check_identity(session, state.provider)


def _selection(
    config: IngestConfig, source: str, seen: Iterable[DatabaseCatalog]
) -> tuple[Selection, list[Finding]]:
    """What is replicated as things are now; where that makes no sense, at least the named tables."""
    try:
        catalog = SourceCatalog(source, "", tuple(seen))
        selection = select(config, source, catalog)
    except ConfigError as error:
        return select(config, source, None), [failed(source, Test.SELECTION, error)]
    found = f"{len(selection.replications)} tables"
    warned = [warning(source, Test.SELECTION, text) for text in selection.warnings]
    return selection, [passed(source, Test.SELECTION, found), *warned]


def _look(
    state: _Examination,
    catalog: DatabaseCatalog,
    selection: Selection,
    *,
    first: bool,
) -> Iterator[Finding]:
    """One database; with the first, the server too, and the speed of the line at the end."""
    database = catalog.database
    try:
        with state.server.session(database, purpose="check") as session:
            if first:
                yield from _server(state, session, selection)
            absent = [
                each
                for each in selection.replications
                if catalog.table(each.table) is None
                and any(other.table(each.table) for other in state.seen)
            ]
            visit = Visit(
                session,
                state.settings,
                state.provider,
                catalog,
                selection.replications,
                absent,
                state.blocked,
                state.stored,
            )
            yield from check_database(visit)
            if first:
                yield check_speed(session, visit.readable)
    except PgIngestError as error:
        yield login_finding(f"{state.source}/{database}", error)


def _server(state: _Examination, session: Session, selection: Selection) -> Iterator[Finding]:
    yield from check_room(session, state.settings, state.provider)
    logged = [each.table for each in selection.replications if each.method is Method.LOG_BASED]
    if not logged:
        yield skipped(state.source, Test.WAL_LEVEL, "because no table is followed by the log")
        return
    try:
        check_kind(session)
    except PgIngestError as error:
        state.blocked = f"because {error.message}"
        yield failed(state.source, Test.REPLICATION, error)
        return
    following = [each.database for each in state.seen if any(map(each.table, logged))]
    names = map(state.settings.log.slot_name, following)
    missing = sum(1 for name in names if read_slot(session, name) is None)
    for finding in check_wal(session, state.settings, state.provider, missing):
        if finding.verdict is Verdict.FAILED and finding.test in _BLOCKING:
            state.blocked = state.blocked or _BLOCKING[finding.test]
        yield finding
