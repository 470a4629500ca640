"""The way to a source: secrets, tunnel, host, login, encryption, in the order in which one needs the other."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.password import RdsIam
from pg_ingest.config.secret import Secret, secrets_of
from pg_ingest.doctor.finding import (
    Finding,
    Test,
    Verdict,
    attempted,
    failed,
    passed,
    skipped,
    warning,
)
from pg_ingest.doctor.tunnel import NO_TUNNEL, check_tunnel
from pg_ingest.errors import LoginFailed, PermissionMissing, PgIngestError, SourceUnreachable
from pg_ingest.postgres.provider import pooler_of
from pg_ingest.postgres.reach import probe
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.tls import is_local

Findings = Generator[Finding, None, str]
"""Findings, and why nothing that depends on them can be looked at: empty when it can."""


_PAST_THE_POOLER = (
    "connect to the database itself: a pooler may hand each transaction to another session, so locks on the"
    " slot do not hold, and replication commands do not pass"
)


def check_way(source: str, settings: SourceConfig) -> Findings:
    """Whether the server may be tried at all: secrets can be read, somebody answers."""
    secrets = list(check_secrets(source, settings))
    yield from secrets
    if settings.ssh is None:
        way = [_host(source, settings)]
    else:
        way = list(check_tunnel(source, settings, settings.ssh))
    yield from way
    host = way[-1]
    pooler = pooler_of(settings.host)
    if pooler is not None:
        yield warning(source, Test.POOLER, f"{settings.host} is {pooler}", _PAST_THE_POOLER)
    why = ""
    if any(finding.verdict is Verdict.FAILED for finding in secrets):
        why = "because a secret cannot be read"
    elif host.verdict is Verdict.FAILED:
        why = "because the host does not answer"
    elif host.verdict is Verdict.SKIPPED:
        why = NO_TUNNEL
    if why:
        yield skipped(source, Test.LOGIN, why)
    return why


def check_secrets(source: str, settings: SourceConfig) -> Iterator[Finding]:
    """Where each secret of the source is kept, and whether it is there."""
    if settings.password is None:
        fact = "none configured (trust, peer, a certificate or ~/.pgpass)"
        yield passed(source, Test.PASSWORD, fact)
    elif isinstance(settings.password, RdsIam):
        yield attempted(source, Test.PASSWORD, lambda: _token(settings))
    for keys, secret in secrets_of(settings):
        name = ".".join(map(str, keys))
        yield _secret(source, name, secret)


def _token(settings: SourceConfig) -> str:
    assert isinstance(settings.password, RdsIam)
    settings.password.token(settings.host, settings.port, settings.user)
    return settings.password.place


def _secret(source: str, name: str, secret: Secret) -> Finding:
    if secret.is_literal:
        return warning(
            source,
            Test.PASSWORD,
            f"{name} stands in the configuration as text",
            f"write {{env: {source.upper()}_{name.replace('.', '_').upper()}}} or {{file: path}} instead",
        )

    def found() -> str:
        secret.reveal()
        return f"{name} from {secret.place}"

    return attempted(source, Test.PASSWORD, found)


def _host(source: str, settings: SourceConfig) -> Finding:
    def answers() -> str:
        address = probe(settings.host, settings.port, settings.limits.connect_timeout)
        return f"{address} port {settings.port} answers"

    return attempted(source, Test.HOST, answers)


def login_finding(subject: str, error: PgIngestError) -> Finding:
    """The test that a failed attempt to enter a database belongs to."""
    test = Test.LOGIN
    if isinstance(error, SourceUnreachable):
        test = Test.HOST
    elif isinstance(error, PermissionMissing):
        test = Test.CONNECT
    elif isinstance(error, LoginFailed):
        if "TLS" in error.message or "certificate" in error.message:
            test = Test.ENCRYPTION
        elif error.message.startswith("database "):
            test = Test.DATABASE
    return failed(subject, test, error)


def check_pooler(source: str, settings: SourceConfig, session: Session) -> Iterator[Finding]:
    """Whether a pooler is in between whose host does not say so."""
    if session.pooled and pooler_of(settings.host) is None:
        fact = "the server's process has another number than the login was told: a pooler is in between"
        yield warning(source, Test.POOLER, fact, _PAST_THE_POOLER)


def check_encryption(source: str, settings: SourceConfig, session: Session) -> Finding:
    """What this connection negotiated, and whether it is certain who the server is."""
    found = session.encryption
    if found is not None and (found.verified or is_local(settings.host)):
        return passed(source, Test.ENCRYPTION, found.text())
    if found is not None:
        return warning(
            source,
            Test.ENCRYPTION,
            found.text(),
            "tls: {mode: verify-full, root_cert: …} proves that it is the server; where it does not send"
            f" its chain, tls: {{mode: require, fingerprint: {found.fingerprint}}}",
        )
    end = "this machine" if settings.ssh is None else f"the SSH server {settings.ssh.address}"
    if is_local(settings.host):
        return passed(source, Test.ENCRYPTION, f"none: the connection does not leave {end}")
    behind = "" if settings.ssh is None else f" behind {end}"
    return warning(
        source,
        Test.ENCRYPTION,
        f"none: passwords and rows cross the network{behind} as they are",
        "switch `ssl` on at the server, then tls: {mode: verify-full, root_cert: …}",
    )
