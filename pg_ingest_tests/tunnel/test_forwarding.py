"""The two ends of a channel, where one of them is gone: an error in here would end the whole SSH connection,
and with it everybody else's channels."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

from pg_ingest.tunnel.forwarding import LocalEnd, RemoteEnd


class _Gone:
    """A channel that has been closed, as the library has it."""

    def write(self, data: bytes) -> None:
        raise BrokenPipeError

    def write_eof(self) -> None:
        raise BrokenPipeError

    def close(self) -> None:
        """As often as one likes."""

    pause_reading = resume_reading = close


def with_connection(
    use: Callable[[socket.socket, LocalEnd, asyncio.Transport], Awaitable[None]],
) -> None:
    """Run `use` with a caller's socket, and the end of it that came in at a local port."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[tuple[LocalEnd, asyncio.Transport]] = loop.create_future()
        server = await loop.create_server(
            lambda: LocalEnd(lambda *ends: accepted.set_result(ends)), "127.0.0.1", 0
        )
        try:
            with closing(socket.create_connection(server.sockets[0].getsockname())) as caller:
                local, transport = await accepted
                try:
                    await use(caller, local, transport)
                finally:
                    transport.abort()
        finally:
            server.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def reset(caller: socket.socket, transport: asyncio.Transport) -> None:
    """Let the caller go without farewell, and wait until the kernel knows."""
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            transport.get_extra_info("socket").getpeername()
        except OSError:
            return
        assert time.monotonic() < deadline


def test_the_end_comes_when_the_caller_is_gone() -> None:
    async def use(caller: socket.socket, local: LocalEnd, transport: asyncio.Transport) -> None:
        remote = RemoteEnd(lambda _: None)
        remote.attach(transport)
        reset(caller, transport)
        assert remote.eof_received()

    with_connection(use)


def test_the_end_came_before_a_caller_who_is_gone() -> None:
    async def use(caller: socket.socket, local: LocalEnd, transport: asyncio.Transport) -> None:
        ends: list[RemoteEnd] = []
        remote = RemoteEnd(ends.append)
        remote.data_received(b"early", None)
        remote.eof_received()
        remote.connection_lost(None)
        reset(caller, transport)
        local.attach(remote)
        assert ends == [remote]

    with_connection(use)


def test_what_came_early_is_handed_on() -> None:
    async def use(caller: socket.socket, local: LocalEnd, transport: asyncio.Transport) -> None:
        remote = RemoteEnd(lambda _: None)
        remote.data_received(b"early", None)
        remote.eof_received()
        local.attach(remote)
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, caller.makefile("rb").read) == b"early"

    with_connection(use)


class _Listens(_Gone):
    """A channel that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.given.append(data)

    def write_eof(self) -> None:
        self.given.append(b"")

    def close(self) -> None:
        self.given.append(b"closed")

    def pause_reading(self) -> None:
        """Nothing comes."""

    resume_reading = pause_reading


def test_what_the_caller_says_before_there_is_a_channel() -> None:
    """Python 3.11.2 reads although it was asked not to, and hands it on here."""

    async def use(caller: socket.socket, local: LocalEnd, transport: asyncio.Transport) -> None:
        local.data_received(b"hello ")
        local.data_received(b"there")
        local.eof_received()
        remote, channel = RemoteEnd(lambda _: None), _Listens()
        given: Any = channel
        remote.connection_made(given)
        local.attach(remote)
        assert channel.given == [b"hello ", b"there", b""]

    with_connection(use)


def test_a_caller_who_left_before_there_was_a_channel() -> None:
    async def use(caller: socket.socket, local: LocalEnd, transport: asyncio.Transport) -> None:
        transport.abort()
        await asyncio.sleep(0)
        remote, channel = RemoteEnd(lambda _: None), _Listens()
        given: Any = channel
        remote.connection_made(given)
        local.attach(remote)
        assert channel.given == [b"closed"]

    with_connection(use)


def test_a_channel_that_is_gone() -> None:
    async def use(caller: socket.socket, local: LocalEnd, transport: asyncio.Transport) -> None:
        remote = RemoteEnd(lambda _: None)
        channel: Any = _Gone()
        remote.connection_made(channel)
        local.attach(remote)
        local.data_received(b"x")
        local.eof_received()
        local.pause_writing()
        local.resume_writing()
        local.connection_lost(None)

    with_connection(use)
