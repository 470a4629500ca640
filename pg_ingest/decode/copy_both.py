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


def transactions_before(messages: Messages, upto: Lsn) -> int:
    """How many of these messages belong to transactions whose Commit begins before `upto`.

    The rest are those from the first Begin on that names a later position.
    """
    begins = np.flatnonzero(
        (messages.buffer[messages.starts] == _BEGIN) & (messages.lengths == _BEGIN_BYTES)
    )
    late = gather(messages.buffer, messages.starts[begins] + 1, ">u8") >= upto
    return int(begins[np.argmax(late)]) if late.any() else len(messages)


def end_of_transaction(messages: Messages, wanted: int) -> int | None:
    """How many messages there are up to the first Commit that makes it at least `wanted`, if any."""
    after = max(wanted, 1) - 1
    commits = np.flatnonzero(messages.buffer[messages.starts[after:]] == _COMMIT)
    return after + int(commits[0]) + 1 if len(commits) else None


def split(messages: Messages, count: int) -> tuple[Messages, Messages]:
    """The first `count` messages and the others."""
    starts, lengths = messages.starts, messages.lengths
    return (
        Messages(messages.buffer, starts[:count], lengths[:count]),
        Messages(messages.buffer, starts[count:], lengths[count:]),
    )
