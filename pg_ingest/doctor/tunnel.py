"""The way through SSH: each server on it, and whether the last one reaches the database."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.ssh import SshConfig
from pg_ingest.doctor.finding import Finding, Test, Verdict, attempted, skipped

NO_TUNNEL = "because the tunnel cannot be opened"


def check_tunnel(source: str, settings: SourceConfig, ssh: SshConfig) -> Iterator[Finding]:
    """The tunnel, then the host as its end sees it."""
    from pg_ingest.tunnel.passage import passage, probe  # loads asyncssh: 0.3 s that others save

    seconds = settings.limits.connect_timeout
    place = f"{settings.host} port {settings.port}"

    def logged_in() -> str:
        hops = probe(ssh, seconds=seconds)
        return ", then ".join(f"{hop.user} at {hop.address} ({hop.host_key})" for hop in hops)

    def answers() -> str:
        with passage(ssh, settings.host, settings.port, seconds=seconds):
            return f"{place} answers {ssh.address}"

    tunnel = attempted(source, Test.TUNNEL, logged_in)
    yield tunnel
    if tunnel.verdict is Verdict.FAILED:
        yield skipped(source, Test.HOST, NO_TUNNEL)
    else:
        yield attempted(source, Test.HOST, answers)
