"""The two ways to read a slot, which say the same: SQL functions and the streaming protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, assert_never

from pg_ingest.config.log import Reader
from pg_ingest.decode.messages import Messages
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.plugin import LogPlugin
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import advance_slot
from pg_ingest.postgres.stream import stream
from pg_ingest.postgres.wal import peek


class WalReader(Protocol):
    """Reads one slot in rounds: `pieces` until they end, make them durable, `confirm`, and again.

    Decode a round with the state that the round before left: a shape may be announced only once.
    """

    def pieces(self, *, upto: Lsn, messages: int) -> Iterator[Messages]:
        """Whole transactions in bounded pieces, in the order of the log.

        Args:
            upto: transactions whose Commit lies behind this position are left out; it must not be
                behind the end of what is flushed at the server.
            messages: stop after the transaction that makes it this many, at least 1.

        Fewer than `messages` in all means that every transaction before `upto` was read. Closing the
        iterator stops the server. Raises ProtocolError and what `faults` makes of a failure.
        """

    def confirm(self, lsn: Lsn) -> None:
        """Let the server throw away what ended before `lsn`, which must be durable on our side.

        Not while `pieces` is being read.
        """


@dataclass(frozen=True, slots=True)
class SqlReader:
    """A WalReader over an ordinary session; `pieces` begins at the slot's position each time."""

    session: Session
    slot: str
    plugin: LogPlugin

    def pieces(self, *, upto: Lsn, messages: int) -> Iterator[Messages]:
        """See WalReader and `wal.peek`."""
        return peek(self.session, self.slot, self.plugin, upto=upto, messages=messages)

    def confirm(self, lsn: Lsn) -> None:
        """See WalReader; the slot has moved when this returns."""
        advance_slot(self.session, self.slot, lsn)


@contextmanager
def open_reader(session: Session, slot: str, plugin: LogPlugin) -> Iterator[WalReader]:
    """The reader that the source's configuration (`log.reader`) asks for, for one capture.

    Raises SlotBusy when somebody else is reading the slot, and for `stream` what connecting raises.
    """
    match session.log.reader:
        case Reader.SQL:
            yield SqlReader(session, slot, plugin)
        case Reader.STREAM:
            with stream(session, slot, plugin) as streaming:
                yield streaming
        case _:
            assert_never(session.log.reader)
