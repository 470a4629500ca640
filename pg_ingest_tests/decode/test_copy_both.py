"""The framing of streaming replication, without a server."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pg_ingest.decode.copy_both import (
    begins,
    commits,
    end_of_transaction,
    read_keepalive,
    split,
    status_update,
    transactions_before,
    unframe,
)
from pg_ingest.decode.messages import Messages
from pg_ingest.errors import ProtocolError
from pg_ingest.lsn import Lsn


def _framed(payload: bytes, tag: bytes = b"w") -> bytes:
    return tag + bytes(24) + payload


def _unframe(*rows: bytes) -> list[bytes]:
    buffer = np.frombuffer(b"".join(rows), dtype=np.uint8)
    return _contents(unframe(buffer, np.array([len(row) for row in rows], dtype=np.int64)))


def _contents(messages: Messages) -> list[bytes]:
    pairs = zip(messages.starts.tolist(), messages.lengths.tolist(), strict=True)
    return [messages.buffer[start : start + length].tobytes() for start, length in pairs]


def _begin(final_lsn: int) -> bytes:
    return b"B" + struct.pack(">QQI", final_lsn, 0, 7)


_LOG = Messages.of([_begin(10), b"I1", b"C", _begin(20), b"I2", b"I3", b"C", _begin(30), b"I4"])


def test_messages_come_out_of_their_frames() -> None:
    assert _unframe(_framed(b"x"), _framed(b"yy" * 40), _framed(b"z")) == [b"x", b"yy" * 40, b"z"]
    assert _unframe() == []


@pytest.mark.parametrize("row", [_framed(b"x", b"k"), _framed(b"")])
def test_something_else_in_the_stream(row: bytes) -> None:
    with pytest.raises(ProtocolError, match="something unknown"):
        _unframe(_framed(b"x"), row)


def test_keepalives() -> None:
    message = b"k" + struct.pack(">QQB", 0x16B374D848, 1, 1)
    assert read_keepalive(message) == (Lsn(0x16B374D848), True)
    assert read_keepalive(message[:-1] + b"\0") == (Lsn(0x16B374D848), False)
    for wrong in (message + b"\0", b"w" + message[1:]):
        with pytest.raises(ProtocolError, match="keepalive"):
            read_keepalive(wrong)


def test_status_updates_say_the_same_of_written_flushed_and_applied() -> None:
    message = status_update(Lsn(77), ask=True)
    assert message[:1] == b"r" and len(message) == 34
    written, flushed, applied, clock, asked = struct.unpack(">QQQQB", message[1:])
    assert (written, flushed, applied, asked) == (77, 77, 77, 1)
    assert clock > 800_000_000_000_000  # microseconds since 2000, in the year 2025 or later


@pytest.mark.parametrize(("upto", "count"), [(5, 0), (10, 0), (11, 3), (20, 3), (21, 7), (31, 9)])
def test_where_later_transactions_begin(upto: int, count: int) -> None:
    assert transactions_before(len(_LOG), begins(_LOG), Lsn(upto)) == count


def test_a_long_change_is_not_taken_for_a_begin() -> None:
    for messages in (Messages.of([b"I" + b"\xff" * 20, b"C"]), Messages.of([])):
        assert transactions_before(len(messages), begins(messages), Lsn(1)) == len(messages)


@pytest.mark.parametrize(
    ("wanted", "end"), [(-3, 3), (1, 3), (3, 3), (4, 7), (7, 7), (8, None), (99, None)]
)
def test_the_commit_that_makes_it_enough(wanted: int, end: int | None) -> None:
    assert end_of_transaction(commits(_LOG), wanted) == end


def test_splitting() -> None:
    first, rest = split(_LOG, 3)
    assert _contents(first) == [_begin(10), b"I1", b"C"]
    assert len(rest) == 6 and _contents(rest)[-1] == b"I4"
