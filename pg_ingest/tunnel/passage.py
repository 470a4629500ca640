"""The tunnels of this process, by their settings; what everybody else calls.

Equal settings share one tunnel, whatever source they come from, so that ten databases behind one bastion need
one login there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pg_ingest.config.ssh import SshConfig
from pg_ingest.tunnel.chain import Hop
from pg_ingest.tunnel.event_loop import EventLoopThread
from pg_ingest.tunnel.tunnel import Route, Tunnel

_LOCAL_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Passage:
    """Where to connect on this machine in order to arrive behind the tunnel."""

    address: str
    port: int


@contextmanager
def passage(ssh: SshConfig, host: str, port: int, *, seconds: float) -> Iterator[Passage]:
    """Open the tunnel unless it is open, and the way from its end to `host` and `port`; connect inside.

    `host` is a name or address as the SSH server sees it, or a folder of its Unix sockets. A connection made
    inside outlives the block. Only this process can use the address. `seconds` is for each login and for the
    way from the last server on.

    Raises ConfigError (a file cannot be read), LoginFailed, HostKeyRefused, TunnelRefused or SourceUnreachable.
    """
    tunnel, route = _thread.run(_prepare(ssh, host, port, seconds))
    try:
        yield Passage(_LOCAL_ADDRESS, route.local_port)
    finally:
        _thread.run(tunnel.settle(route))


def probe(ssh: SshConfig, *, seconds: float) -> tuple[Hop, ...]:
    """Log in at every server of the tunnel and say what they are; raises as `passage` does."""
    return _thread.run(_hops(ssh, seconds))


def loss_since(ssh: SshConfig, moment: float) -> str:
    """Why the tunnel broke after that moment (of `time.monotonic`), empty when it did not."""
    return _thread.run(_loss_since(ssh, moment))


def close_tunnels() -> None:
    """Close all tunnels of this process, and with them the connections through them.

    Happens by itself when the process ends; a tunnel that is needed again is opened again.
    """
    _thread.stop()


_tunnels: dict[SshConfig, Tunnel] = {}
"""Only touched in the thread of the tunnels."""

_inherited: list[Tunnel] = []
"""In a forked child: its parent's tunnels. They must be neither used nor closed, which would write to them."""


def _forget() -> None:
    _inherited.extend(_tunnels.values())
    _tunnels.clear()


os.register_at_fork(after_in_child=_forget)


async def _prepare(ssh: SshConfig, host: str, port: int, seconds: float) -> tuple[Tunnel, Route]:
    tunnel = _tunnel(ssh)
    return tunnel, await tunnel.prepare(host, port, seconds)


async def _hops(ssh: SshConfig, seconds: float) -> tuple[Hop, ...]:
    return await _tunnel(ssh).hops(seconds)


async def _loss_since(ssh: SshConfig, moment: float) -> str:
    tunnel = _tunnel(ssh)
    return tunnel.loss if tunnel.lost_at > moment else ""


def _tunnel(ssh: SshConfig) -> Tunnel:
    if ssh not in _tunnels:
        _tunnels[ssh] = Tunnel(ssh)
    return _tunnels[ssh]


async def _farewell() -> None:
    for tunnel in _tunnels.values():
        await tunnel.close()
    _tunnels.clear()


_thread = EventLoopThread(_farewell)
