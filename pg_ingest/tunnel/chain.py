"""SSH connections one through the other, from the first jump host to the server that sees the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncssh

from pg_ingest.config.ssh import SshConfig, SshServer
from pg_ingest.errors import PgIngestError
from pg_ingest.tunnel.credentials import asked_agent, own_keys
from pg_ingest.tunnel.faults import login_fault, passage_fault
from pg_ingest.tunnel.host_keys import KnownKeys, fingerprint, known_keys
from pg_ingest.tunnel.login import Login

log = logging.getLogger(__name__)

_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
"""GCM first: with the processor's own AES it costs half of ChaCha20, the library's first choice."""

_KEEPALIVES = 3
"""Questions without an answer before a connection counts as lost."""


@dataclass(frozen=True, slots=True)
class Hop:
    """An SSH server that was logged in to.

    Attributes:
        address: host:port.
        user: who we are there.
        host_key: fingerprint of its key.
        version: what it calls itself.
    """

    address: str
    user: str
    host_key: str
    version: str


@dataclass(eq=False)
class Chain:
    """Open connections in the order they were made; the last one sees the database."""

    connections: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    hops: list[Hop] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    closing: bool = False
    on_loss: Callable[[Login], None] = lambda login: None

    @property
    def end(self) -> asyncssh.SSHClientConnection:
        """The connection to the last server."""
        return self.connections[-1]

    @property
    def alive(self) -> bool:
        """Whether no connection has ended, as far as is known."""
        return not self.closing and not any(each.is_closed() for each in self.connections)

    async def close(self) -> None:
        """End all of them, the last one first."""
        self.closing = True
        for connection in reversed(self.connections):
            connection.close()
            await connection.wait_closed()

    def ended(self, login: Login) -> None:
        """Called when a connection has ended, also one whose login failed."""
        if not self.closing and login in self.logins:
            self.on_loss(login)


async def open_chain(ssh: SshConfig, seconds: float, on_loss: Callable[[Login], None]) -> Chain:
    """Log in at each server through the one before it; each has `seconds` for it.

    `on_loss` is called for each connection that ends without our having closed it. Raises ConfigError,
    HostKeyRefused, LoginFailed, TunnelRefused or SourceUnreachable; nothing stays open then.
    """
    chain = Chain(on_loss=on_loss)
    try:
        for server in ssh.hops:
            await _add(chain, server, ssh.keepalive, seconds)
    except BaseException:
        await chain.close()
        raise
    return chain


async def _add(chain: Chain, server: SshServer, keepalive: int, seconds: float) -> None:
    known = await asyncio.to_thread(known_keys, server)
    keys = await asyncio.to_thread(own_keys, server)
    password = await asyncio.to_thread(_password, server)
    agent = await asked_agent(server)
    login = Login(server, known, [*keys, *agent.keys], password, chain.ended)
    try:
        async with asyncio.timeout(seconds):
            connection = await _connect(chain, login, known, keepalive)
    except asyncssh.ChannelOpenError as error:
        raise passage_fault(error, chain.logins[-1].server, server.host, server.port) from None
    except PgIngestError:
        raise
    except (OSError, asyncssh.Error, ValueError) as error:
        raise login_fault(error, login, known, seconds) from None
    finally:
        await agent.close()
    chain.connections.append(connection)
    chain.hops.append(_hop(connection, server))
    chain.logins.append(login)
    log.info("logged in at the SSH server %s as %s", server.address, server.user)


def _password(server: SshServer) -> str | None:
    return None if server.password is None else server.password.reveal(fresh=True)


async def _connect(
    chain: Chain, login: Login, known: KnownKeys, keepalive: int
) -> asyncssh.SSHClientConnection:
    """Nothing of `~/.ssh` but known_hosts has a say: neither its `config` nor its keys."""
    server = login.server
    return await asyncssh.connect(
        server.host,
        server.port,
        tunnel=chain.connections[-1] if chain.connections else None,
        config=None,
        client_factory=lambda: login,
        known_hosts=known.entries(),
        server_host_key_algs=known.algorithms(),
        x509_trusted_certs=None,
        username=server.user,
        client_keys=None,
        agent_path=None,
        gss_host=None,
        preferred_auth=("publickey", "password", "keyboard-interactive"),
        host_based_auth=False,
        encryption_algs=_CIPHERS,
        compression_algs=None,
        keepalive_interval=keepalive,
        keepalive_count_max=_KEEPALIVES,
        login_timeout=0,
    )


def _hop(connection: asyncssh.SSHClientConnection, server: SshServer) -> Hop:
    key = connection.get_server_host_key()
    shown = fingerprint(key.public_data) if key is not None else ""
    version = str(connection.get_extra_info("server_version", ""))
    return Hop(server.address, server.user, shown, version)
