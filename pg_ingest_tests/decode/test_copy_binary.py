"""Frames of a binary COPY."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.decode.copy_binary import HEADER, TRAILER, unframe
from pg_ingest.decode.messages import Messages
from pg_ingest.errors import ProtocolError
from pg_ingest_tests.conftest import Database


def _unframe(rows: list[bytes]) -> Messages:
    buffer = np.frombuffer(b"".join(rows), dtype=np.uint8)
    return unframe(buffer, np.array([len(row) for row in rows], dtype=np.int64))


def _values(messages: Messages) -> list[bytes]:
    ends = messages.starts + messages.lengths
    return [
        messages.buffer[start:end].tobytes()
        for start, end in zip(messages.starts, ends, strict=True)
    ]


def _frame(value: bytes) -> bytes:
    return struct.pack(">hi", 1, len(value)) + value


@given(st.lists(st.binary(max_size=9)))
def test_values_come_back(values: list[bytes]) -> None:
    assert _values(_unframe([_frame(value) for value in values])) == values


def test_as_the_server_frames_them(database: Database) -> None:
    rows = []
    with (
        database.connect() as connection,
        connection.cursor().copy(
            "copy (select decode(v, 'hex') from unnest('{00ff,\"\",41}'::text[]) v)"
            " to stdout (format binary)"
        ) as copy,
    ):
        while data := copy.read():
            rows.append(bytes(data))
    assert rows[0].startswith(HEADER)
    assert rows[-1] == TRAILER
    assert _values(_unframe([rows[0][len(HEADER) :], *rows[1:-1]])) == [b"\x00\xff", b"", b"A"]


@pytest.mark.parametrize(
    "row",
    [
        b"\0\1\0\0",
        struct.pack(">hi", 1, -1),
        struct.pack(">hi", 2, 1) + b"x",
        struct.pack(">hi", 1, 2) + b"x",
        struct.pack(">hi", 1, 0) + b"x",
    ],
)
def test_another_frame_is_refused(row: bytes) -> None:
    with pytest.raises(ProtocolError):
        _unframe([_frame(b"good"), row])
