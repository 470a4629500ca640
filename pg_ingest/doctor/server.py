"""The server as a whole: who runs it, who we are there, its clock, its room; a standby's patience."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.model import SourceConfig
from pg_ingest.doctor.finding import Finding, Test, passed, warning
from pg_ingest.doctor.patience import check_patience
from pg_ingest.postgres.connect import version_note, version_text
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server_state import (
    ServerSettings,
    clock_offset,
    places_taken,
    role_facts,
    server_settings,
)
from pg_ingest.postgres.session import Session

CLOCK_SECONDS = 5.0
"""Beyond this, times in reports and the times of rows no longer fit together for people."""


def check_identity(session: Session, provider: Provider) -> Iterator[Finding]:
    """Version, provider, role, clock."""
    source, number = session.source, session.server_version
    note = version_note(number)
    text = f"PostgreSQL {version_text(number)}{', a standby' if session.is_standby else ''}"
    if note is None:
        yield passed(source, Test.VERSION, text)
    else:
        yield warning(source, Test.VERSION, note, "docs/setup has what is tested")
    yield passed(source, Test.PROVIDER, provider.full_name)
    yield _role(session)
    yield _clock(session)


def _role(session: Session) -> Finding:
    if role_facts(session).superuser:
        return warning(
            session.source,
            Test.ROLE,
            f"{session.role} is a superuser: far more than reading needs",
            "`pg-ingest setup-sql` prints the script for a role with the grants it needs and no others",
        )
    return passed(session.source, Test.ROLE, f"{session.role}, no superuser")


def _clock(session: Session) -> Finding:
    ahead = clock_offset(session)
    if abs(ahead) <= CLOCK_SECONDS:
        return passed(session.source, Test.CLOCK, f"{ahead:+.1f} s from ours")
    return warning(
        session.source,
        Test.CLOCK,
        f"the server's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} ours",
        "let both machines follow NTP (timedatectl set-ntp true); no position depends on clocks, but"
        " schedules, reports and temporary login tokens do",
    )


def check_room(session: Session, settings: SourceConfig, provider: Provider) -> Iterator[Finding]:
    """Connections left for us, and on a standby its patience with long reads."""
    values = server_settings(session)
    yield _connections(session, settings, values)
    if session.is_standby:
        yield check_patience(session.source, values, provider)
    limit = values.number("transaction_timeout")
    if limit and limit < settings.limits.statement_timeout * 1000:
        yield warning(
            session.source,
            Test.ROLE,
            f"transaction_timeout ends every transaction of {session.role} after {limit // 1000} s",
            f"ALTER ROLE {quoted(session.role)} SET transaction_timeout = 0;",
        )


def _connections(session: Session, settings: SourceConfig, values: ServerSettings) -> Finding:
    wanted = settings.limits.connections
    limit = values.number("max_connections") or 0
    reserved = values.number("superuser_reserved_connections") or 0
    left = max(0, limit - reserved - places_taken(session).connections)
    own = role_facts(session).connection_limit
    if 0 <= own < wanted:
        return warning(
            session.source,
            Test.CONNECTIONS,
            f"role {session.role} may have {own} connections, limits.connections is {wanted}",
            f"ALTER ROLE {quoted(session.role)} CONNECTION LIMIT {wanted + 2}; or lower"
            " `limits.connections`",
        )
    if left < wanted:
        return warning(
            session.source,
            Test.CONNECTIONS,
            f"{left} of {limit} connections are left, limits.connections is {wanted}",
            f"limits: {{connections: {max(1, left)}}}, or raise max_connections and restart",
        )
    return passed(session.source, Test.CONNECTIONS, f"{left} of {limit} left, {wanted} wanted")
