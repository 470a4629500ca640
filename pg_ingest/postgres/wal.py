"""The changes in a slot, read with SQL functions.

`pg_logical_slot_peek_binary_changes` works over an ordinary connection and needs no line for replication
in pg_hba.conf, and its rows travel in bulk: several times faster than the streaming protocol, which
sends every message on its own. It takes only what it says: `data` alone is read, because Begin and
Commit messages repeat the positions and transaction ids of the other two columns.

Memory. A peek returns whole transactions and stops after the first one that reaches the wanted number
of messages. The server decodes them into temporary files of its own (what is above `work_mem` and
`logical_decoding_work_mem`), so a transaction of 10 GB needs as much of its disk for a while. Here they
arrive as a stream and are handed on in pieces of about PIECE_BYTES, so our memory is bounded by a
piece and the largest single row, whatever the transaction's size.

A textual plugin's messages are read as texts, so that the server brings them to UTF-8; the bytes of another
are its own.

The values' text form is that of this session's settings, the same as for COPY.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from psycopg import sql

from pg_ingest.decode.copy_binary import HEADER, TRAILER, unframe
from pg_ingest.decode.messages import Messages
from pg_ingest.errors import ProtocolError
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.plugin import LogPlugin
from pg_ingest.postgres.session import Session

PIECE_BYTES = 8 << 20
"""Fits the processor's caches: decoding pieces of 64 MB took twice as long."""

_PEEK = "SELECT data FROM pg_catalog.{}({}, {}, {}, VARIADIC {})"
_TEXT, _BINARY = "pg_logical_slot_peek_changes", "pg_logical_slot_peek_binary_changes"


def peek(
    session: Session, slot: str, plugin: LogPlugin, *, upto: Lsn, messages: int
) -> Iterator[Messages]:
    """Whole transactions from the slot's position on, in pieces, without moving the slot.

    Args:
        upto: transactions that commit behind this position are left out.
        messages: stop after the transaction that makes it this many, at least 1.

    Fewer than `messages` in all means that every transaction up to `upto` was read. Raises SlotBusy,
    ProtocolError, and what `faults` makes of a failure. Closing the iterator cancels the statement.
    """
    options = [word for option in plugin.options.items() for word in option]
    statement = sql.SQL(_PEEK).format(
        sql.Identifier(_TEXT if plugin.textual else _BINARY),
        sql.Literal(slot),
        sql.Literal(str(upto)),
        sql.Literal(messages),
        sql.Literal(options),
    )
    with (
        session.listening(plugin.heard),
        session.copy_binary(
            statement, f"reading slot {slot}", any_bytes=not plugin.textual
        ) as stream,
    ):
        data, lengths = stream.rows(PIECE_BYTES)
        header = len(HEADER)
        _expect(bytes(data[:header]), HEADER)
        lengths[0] -= header
        yield from _piece(data, lengths, header)
        while (piece := stream.rows(PIECE_BYTES))[1]:
            yield from _piece(*piece)


def _piece(data: bytearray, lengths: list[int], skip: int = 0) -> Iterator[Messages]:
    """The messages of whole rows without the file's trailer, if there are any."""
    buffer = np.frombuffer(data, dtype=np.uint8)[skip:]
    sizes = np.array(lengths, dtype=np.int64)
    if sizes[-1] == len(TRAILER):
        _expect(buffer[-len(TRAILER) :].tobytes(), TRAILER)
        buffer, sizes = buffer[: -len(TRAILER)], sizes[:-1]
    if len(sizes):
        yield unframe(buffer, sizes)


def _expect(found: bytes, wanted: bytes) -> None:
    if found != wanted:
        raise ProtocolError("the server's binary COPY does not look as documented")
