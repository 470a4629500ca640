"""Bytes between a local connection and a channel of an SSH connection, both ways, with back pressure.

A side that does not take what it is given makes the other side stop reading, so that no more than a channel's
window is ever in memory.

An end may be gone before its farewell has been heard, and writing to it then fails. That must stay here: what a
callback raises ends the SSH connection, and with it the channels of everybody else. The other end hears of it
from its own side's `connection_lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import asyncssh

WINDOW_BYTES = 8 << 20
"""How much the server may send ahead of us: 2 MiB, the usual, would allow 20 MB/s over 100 ms of distance."""

PACKET_BYTES = 64 << 10
"""The largest packet we take; the usual 32 KiB costs more calls, and sshd fills no larger ones."""


class RemoteEnd(asyncssh.SSHTCPSession[bytes]):
    """The channel. Opened before there is a local connection, and attached to it later.

    Attributes:
        leaving: we have sent all, and wait for nothing but its end.
        ended: the channel is closed.
        broken: it was not closed in order.
    """

    def __init__(self, on_end: Callable[[RemoteEnd], None]) -> None:
        self.leaving = False
        self.ended = False
        self.broken = False
        self._on_end = on_end
        self._local: asyncio.Transport | None = None
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._early: list[bytes] = []
        self._early_end = False

    def attach(self, local: asyncio.Transport) -> None:
        """Hand on to `local` what came and what comes."""
        self._local = local
        local.writelines(self._early)
        self._early = []
        if self._early_end:
            _end(local)
        if self.ended:
            local.close()

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """The server has opened the channel."""
        self._channel = chan

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed in order: what has come still goes out. Lost: the local side must not take it for an end."""
        self.ended, self.broken = True, exc is not None
        self._channel = None
        if self._local is not None:
            if exc is None:
                self._local.close()
            else:
                self._local.abort()
        self._on_end(self)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """From the database."""
        if self._local is None:
            self._early.append(data)
        else:
            self._local.write(data)

    def eof_received(self) -> bool:
        """The database has sent all; it may still listen."""
        if self._local is None:
            self._early_end = True
        else:
            _end(self._local)
        return True

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        if self._local is not None:
            self._local.pause_reading()

    def resume_writing(self) -> None:
        """The server takes more."""
        if self._local is not None and not self._local.is_closing():
            self._local.resume_reading()

    def send(self, data: bytes) -> None:
        """To the database."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.write(data)

    def send_end(self) -> None:
        """Nothing more comes from us."""
        self.leaving = True
        if self._channel is not None:
            with suppress(OSError):
                self._channel.write_eof()

    def hold(self) -> None:
        """Take nothing more from the server for now."""
        if self._channel is not None:
            self._channel.pause_reading()

    def go_on(self) -> None:
        """Take from the server again."""
        if self._channel is not None:
            self._channel.resume_reading()

    def close(self) -> None:
        """Close the channel once everything is sent."""
        self.leaving = True
        if self._channel is not None:
            self._channel.close()


def _end(local: asyncio.Transport) -> None:
    if not local.is_closing():
        with suppress(OSError):
            local.write_eof()


class LocalEnd(asyncio.Protocol):
    """A connection that came in at the local port, and is attached to a channel at once or soon.

    Until then it is asked to read nothing; what asyncio reads all the same (Python 3.11.2 forgets a pause in
    `connection_made`) waits here.
    """

    def __init__(self, on_connection: Callable[[LocalEnd, asyncio.Transport], None]) -> None:
        self._on_connection = on_connection
        self._remote: RemoteEnd | None = None
        self._early: list[bytes] = []
        self._early_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        local = cast(asyncio.Transport, transport)
        local.pause_reading()
        self._transport = local
        self._on_connection(self, local)

    def attach(self, remote: RemoteEnd) -> None:
        """From now on, carry."""
        self._remote = remote
        remote.attach(self._transport)
        for data in self._early:
            remote.send(data)
        self._early = []
        if self._early_end:
            remote.send_end()
        if self._transport.is_closing():
            remote.close()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """From us to the database."""
        if self._remote is None:
            self._early.append(data)
        else:
            self._remote.send(data)

    def eof_received(self) -> bool:
        """We have sent all; we still listen."""
        if self._remote is None:
            self._early_end = True
        else:
            self._remote.send_end()
        return True

    def pause_writing(self) -> None:
        """We do not read fast enough."""
        if self._remote is not None:
            self._remote.hold()

    def resume_writing(self) -> None:
        """We read again."""
        if self._remote is not None:
            self._remote.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """We are done."""
        if self._remote is not None:
            self._remote.close()
