"""A tunnel: one chain of SSH connections, shared by all connections to databases behind it.

A channel to the database is opened *before* libpq connects. So a server that forbids it, or a database that is
down, is told as what it is, where a listener that accepts first could only hang up. The next connection that
comes in at the local port gets the channel; what libpq opens besides (a cancellation, a second attempt without
TLS) gets one of its own.

When the chain breaks, every connection through it breaks with it, and the next caller opens a new one. A chain
whose break nobody has noticed yet (a laptop that slept, a firewall that forgot) shows by a channel that is not
answered: when nobody else uses it, it is replaced once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from pg_ingest.config.ssh import SshConfig
from pg_ingest.errors import PgIngestError
from pg_ingest.tunnel.chain import Chain, Hop, open_chain
from pg_ingest.tunnel.faults import passage_fault, passage_timeout
from pg_ingest.tunnel.forwarding import PACKET_BYTES, WINDOW_BYTES, LocalEnd, RemoteEnd
from pg_ingest.tunnel.login import Login
from pg_ingest.tunnel.own_sockets import is_ours

log = logging.getLogger(__name__)

IDLE_SECONDS = 300.0
"""How long an SSH connection stays open that nobody uses: a code location lives for weeks."""

_LOOPBACK = "127.0.0.1"


@dataclass(eq=False)
class Route:
    """A local port, and the address behind the tunnel that it leads to.

    Attributes:
        ready: channels for the next connections that come in.
        expected: callers that are about to connect.
        seconds: how long a further channel may take to open.
    """

    host: str
    port: int
    seconds: float
    server: asyncio.Server | None = None
    ready: deque[RemoteEnd] = field(default_factory=deque)
    expected: int = 0

    @property
    def local_port(self) -> int:
        """The port on 127.0.0.1."""
        assert self.server is not None
        found: int = self.server.sockets[0].getsockname()[1]
        return found


class Tunnel:
    """All its methods run in the loop of `event_loop`.

    Attributes:
        loss: why its SSH connection broke the last time, and
        lost_at: when, by the clock of `time.monotonic`.
    """

    def __init__(self, ssh: SshConfig) -> None:
        self.ssh = ssh
        self.loss = ""
        self.lost_at = 0.0
        self._chain: Chain | None = None
        self._opening: asyncio.Task[Chain] | None = None
        self._routes: dict[tuple[str, int], Route] = {}
        self._channels: set[RemoteEnd] = set()
        self._broken = 0
        self._pending = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: asyncio.TimerHandle | None = None

    async def prepare(self, host: str, port: int, seconds: float) -> Route:
        """Open a channel to that address, and have the local port give it to the next who connects.

        Call `settle` when the connecting is over, however it went. Raises what `open_chain` does, and
        TunnelRefused or SourceUnreachable for the channel.
        """
        remote = await self._new_channel(host, port, seconds)
        route = self._routes.setdefault((host, port), Route(host, port, seconds))
        route.seconds = seconds
        if route.server is None:
            await self._listen(route)
        route.ready.append(remote)
        route.expected += 1
        return route

    async def settle(self, route: Route) -> None:
        """A caller has connected, or has given up: close the channels that nobody waits for."""
        route.expected -= 1
        while len(route.ready) > route.expected:
            route.ready.pop().close()

    async def hops(self, seconds: float) -> tuple[Hop, ...]:
        """The servers that were logged in to, opening the chain when there is none."""
        return tuple((await self._opened(seconds)).hops)

    async def close(self) -> None:
        """Close everything; the next `prepare` opens it anew."""
        self._stay()
        for route in self._routes.values():
            if route.server is not None:
                route.server.close()
        self._routes = {}
        for task in self._tasks:
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        await self._close_chain()

    async def _new_channel(self, host: str, port: int, seconds: float) -> RemoteEnd:
        self._pending += 1
        self._stay()
        try:
            return await self._channel(host, port, seconds)
        finally:
            self._pending -= 1
            self._rest()

    async def _channel(self, host: str, port: int, seconds: float) -> RemoteEnd:
        fresh = self._chain is None
        chain = await self._opened(seconds)
        try:
            return await self._channel_of(chain, host, port, seconds)
        except _Stale as stale:
            if fresh or not all(each.leaving for each in self._channels):
                raise stale.fault from None
        if self._chain is chain:
            await self._close_chain()
        try:
            return await self._channel_of(await self._opened(seconds), host, port, seconds)
        except _Stale as stale:
            raise stale.fault from None

    async def _channel_of(self, chain: Chain, host: str, port: int, seconds: float) -> RemoteEnd:
        remote = RemoteEnd(self._channel_ended)
        try:
            async with asyncio.timeout(seconds):
                await _open_channel(chain.end, remote, host, port)
        except TimeoutError:
            raise _Stale(passage_timeout(self.ssh, host, port, seconds)) from None
        except asyncssh.ChannelOpenError as error:
            fault = passage_fault(error, self.ssh, host, port)
            raise (fault if chain.alive else _Stale(fault)) from None
        self._channels.add(remote)
        return remote

    async def _opened(self, seconds: float) -> Chain:
        """The chain; whoever comes while it is being opened shares the attempt and its failure."""
        if self._chain is not None and self._chain.alive:
            return self._chain
        if self._chain is not None:
            self._do(self._chain.close())  # of its connections some may still be open
            self._chain = None
        if self._opening is None:
            self._opening = asyncio.create_task(open_chain(self.ssh, seconds, self._lost))
            self._opening.add_done_callback(self._opening_done)
        return await asyncio.shield(self._opening)

    def _opening_done(self, task: asyncio.Task[Chain]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._chain = task.result()
            self._rest()

    def _lost(self, login: Login) -> None:
        reason = str(login.lost) if login.lost else "the server ended it"
        self.loss = f"the SSH connection to {login.server.address} was lost: {reason}"
        self.lost_at = time.monotonic()
        log.warning("%s (%d connections to databases ended with it)", self.loss, self._broken)
        self._broken = 0

    async def _close_chain(self) -> None:
        chain, self._chain = self._chain, None
        if chain is not None:
            await chain.close()

    def _channel_ended(self, remote: RemoteEnd) -> None:
        self._channels.discard(remote)
        self._broken += remote.broken
        self._rest()

    def _rest(self) -> None:
        """If nobody uses it, close it after a while."""
        self._stay()
        if self._channels or self._pending:
            return
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rested)

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rested(self) -> None:
        log.info("the SSH connection to %s is idle and is closed", self.ssh.address)
        self._do(self._close_chain())

    async def _listen(self, route: Route) -> None:
        def accepted(local: LocalEnd, transport: asyncio.Transport) -> None:
            self._accept(route, local, transport)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: LocalEnd(accepted), _LOOPBACK, 0)
        if route.server is None:
            route.server = server
        else:
            server.close()  # somebody else was faster

    def _accept(self, route: Route, local: LocalEnd, transport: asyncio.Transport) -> None:
        near = transport.get_extra_info("peername")
        if not is_ours(near, transport.get_extra_info("sockname")):
            log.warning("turned away who is not this process: tunnel to %s", self.ssh.address)
            transport.abort()
            return
        while route.ready:
            remote = route.ready.popleft()
            if not remote.ended:
                local.attach(remote)
                return
        self._do(self._attach_new(route, local, transport))

    async def _attach_new(
        self, route: Route, local: LocalEnd, transport: asyncio.Transport
    ) -> None:
        try:
            local.attach(await self._new_channel(route.host, route.port, route.seconds))
        except PgIngestError as error:
            log.warning("%s", error.message)
            transport.abort()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Stale(Exception):
    """The chain did not answer; `fault` is what that means if it is as alive as it seems."""

    def __init__(self, fault: PgIngestError) -> None:
        super().__init__(fault.message)
        self.fault = fault


async def _open_channel(
    connection: asyncssh.SSHClientConnection, remote: RemoteEnd, host: str, port: int
) -> None:
    if host.startswith("/"):
        path = f"{host.rstrip('/')}/.s.PGSQL.{port}"
        factory: Any = lambda: remote  # noqa: E731  typed for texts there, although bytes work as well
        await connection.create_unix_connection(
            factory, path, encoding=None, window=WINDOW_BYTES, max_pktsize=PACKET_BYTES
        )
    else:
        await connection.create_connection(
            lambda: remote,
            host,
            port,
            encoding=None,
            window=WINDOW_BYTES,
            max_pktsize=PACKET_BYTES,
        )
