"""The framing of the streaming replication protocol: what stands in its CopyData messages.

From the server come XLogData, with one message of the output plugin each, and Primary keepalive messages,
which are shorter than the header of the former, so their length tells them apart. To the server go Standby
status updates.

Facts: manual, "Streaming Replication Protocol".
"""

from __future__ import annotations

import struct
import time

import numpy as np

from pg_ingest.decode.messages import Bytes, Integers, Messages
from pg_ingest.decode.wire import gather
from pg_ingest.errors import ProtocolError
from pg_ingest.lsn import Lsn

KEEPALIVE_BYTES = 18
"""Tag, position, time, whether an answer is wanted."""

_HEADER = 25
_XLOG_DATA, _KEEPALIVE, _STATUS = ord("w"), b"k", b"r"
_EPOCH = 946_684_800
"""2000-01-01 in seconds since 1970: where the server's clock begins."""

_BEGIN, _COMMIT = b"BC"
_BEGIN_BYTES = 21


def unframe(buffer: Bytes, sizes: Integers) -> Messages:
    """The plugin's messages in some XLogData that lie in `buffer` one after the other.

    Args:
        sizes: of each XLogData, in bytes.

    Raises ProtocolError when one is something else.
    """
    starts = np.cumsum(sizes) - sizes
    if (sizes <= _HEADER).any() or (buffer[starts] != _XLOG_DATA).any():
        raise ProtocolError(
            "the server sent something unknown in the middle of a replication stream",
            hint="something between here and the server does not pass the protocol on as it is",
        )
    return Messages(buffer, starts + _HEADER, sizes - _HEADER)


def read_keepalive(message: bytes) -> tuple[Lsn, bool]:
    """How far the server has read its log and sent what it found; whether it wants an answer."""
    if len(message) != KEEPALIVE_BYTES or message[:1] != _KEEPALIVE:
        raise ProtocolError("the server sent a keepalive message that does not look as documented")
    position, _, wanted = struct.unpack_from(">QQB", message, 1)
    return Lsn(position), bool(wanted)


def status_update(durable: Lsn, *, ask: bool) -> bytes:
    """A Standby status update: everything before `durable` is safe with us; `ask` for a keepalive."""
    now = int((time.time() - _EPOCH) * 1e6)
    return _STATUS + struct.pack(">QQQQB", durable, durable, durable, now, ask)


def begins(messages: Messages) -> tuple[Integers, Integers]:
    """The numbers of pgoutput's Begin messages and the positions of the Commits that they announce."""
    found = np.flatnonzero(
        (messages.buffer[messages.starts] == _BEGIN) & (messages.lengths == _BEGIN_BYTES)
    )
    return found, gather(messages.buffer, messages.starts[found] + 1, ">u8").astype(np.int64)


def commits(messages: Messages) -> Integers:
    """The numbers of pgoutput's Commit messages."""
    return np.flatnonzero(messages.buffer[messages.starts] == _COMMIT)


def transactions_before(total: int, begun: tuple[Integers, Integers], upto: Lsn) -> int:
    """How many of `total` messages belong to transactions whose Commit begins before `upto`.

    The rest are those from the first Begin on that names a later position.
    """
    indexes, lsns = begun
    late = lsns >= upto
    return int(indexes[np.argmax(late)]) if late.any() else total


def end_of_transaction(ended: Integers, wanted: int) -> int | None:
    """How many messages there are up to the first Commit that makes it at least `wanted`, if any.

    `ended` are the numbers of the Commits.
    """
    first = np.searchsorted(ended, max(wanted, 1) - 1)
    return int(ended[first]) + 1 if first < len(ended) else None


def split(messages: Messages, count: int) -> tuple[Messages, Messages]:
    """The first `count` messages and the others."""
    starts, lengths = messages.starts, messages.lengths
    return (
        Messages(messages.buffer, starts[:count], lengths[:count]),
        Messages(messages.buffer, starts[count:], lengths[count:]),
    )
