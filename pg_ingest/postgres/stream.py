"""The changes in a slot, read by the streaming replication protocol.

One START_REPLICATION serves as many rounds of `pieces` and `confirm` as are wanted: the server decodes its
log once, where every peek begins anew at the slot's position. It sends each message on its own, so for
a backlog of small transactions the SQL functions are several times faster.

Where it ends. Every answer to a question of ours, and every keepalive, says how far the server has read
its log; all that it found there was sent before. So an idle database answers at once, and on a busy one
what commits behind `upto` is kept for the next round.

What it must not do to the server: keep a fast shutdown waiting. The server then waits for `flush` to reach
the end of its log, so a stream is opened for one capture and closed with it, and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pg_ingest.decode.copy_both import end_of_transaction, split, transactions_before
from pg_ingest.decode.messages import Messages
from pg_ingest.errors import MethodUnavailable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.copy_both import CopyBoth
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.guard import Throttle
from pg_ingest.postgres.plugin import LogPlugin
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.wal import PIECE_BYTES

_READ_AS_THEY_ARE = ("UTF8", "SQL_ASCII")

_NOTHING = Messages.of([])


class StreamReader:
    """A WalReader over START_REPLICATION; see `stream`."""

    def __init__(self, wire: CopyBoth, plugin: LogPlugin, throttle: Throttle) -> None:
        self._wire = wire
        self._plugin = plugin
        self._throttle = throttle
        self._kept = _NOTHING
        self._between_rounds = True

    def pieces(self, *, upto: Lsn, messages: int) -> Iterator[Messages]:
        """See WalReader. A round that was left early cannot be followed by another."""
        if not self._between_rounds:
            raise RuntimeError("the stream stands in the middle of a transaction")
        self._between_rounds = False
        done = 0
        while True:
            found, complete = self._before(upto)
            end = end_of_transaction(self._plugin.commits(found), messages - done)
            if end is not None:
                found, rest = split(found, end)
                self._keep_before(rest)
            done += len(found)
            if len(found):
                yield found
            if complete or end is not None:
                break
        self._between_rounds = True

    def confirm(self, lsn: Lsn) -> None:
        """See WalReader. The slot has moved at the latest when the stream is over."""
        self._wire.confirm(lsn)

    def _before(self, upto: Lsn) -> tuple[Messages, bool]:
        """The next messages of transactions that commit before `upto`; and whether those are all."""
        found, self._kept = self._kept, _NOTHING
        if not len(found) and self._wire.sent_upto < upto:
            found = self._wire.receive(upto, PIECE_BYTES)
            self._throttle.spend(found.buffer.nbytes)  # not in use: the thread goes on reporting
        count = transactions_before(len(found), self._plugin.begins(found), upto)
        if count < len(found):
            found, self._kept = split(found, count)
            return found, True
        return found, self._wire.sent_upto >= upto

    def _keep_before(self, rest: Messages) -> None:
        """Put `rest` before what is kept; both are pieces of one buffer."""
        starts = np.concatenate([rest.starts, self._kept.starts])
        lengths = np.concatenate([rest.lengths, self._kept.lengths])
        self._kept = Messages(rest.buffer, starts, lengths)


@contextmanager
def stream(session: Session, slot: str, plugin: LogPlugin) -> Iterator[StreamReader]:
    """Stream a slot from its position on, over a second connection with the settings of `session`.

    Raises SlotBusy, what connecting raises, what `faults` makes of a refusal, and MethodUnavailable for a
    textual plugin in a database whose encoding is not UTF-8: the stream converts nothing.
    """
    if plugin.textual and session.encoding not in _READ_AS_THEY_ARE:
        raise MethodUnavailable(
            f"{plugin.name} cannot be streamed from a database in {session.encoding}",
            detail="the replication protocol passes its texts on without converting them to UTF-8",
            hint="set `log.reader: sql`, which does, or `log.plugin: pgoutput`",
        )
    connection = session.replication_connection()
    connection.add_notice_handler(lambda notice: plugin.heard(notice.message_primary or ""))
    with CopyBoth(
        connection,
        _command(slot, plugin),
        f"streaming slot {slot}",
        role=session.role,
        patience=session.limits.statement_timeout,
    ) as wire:
        yield StreamReader(wire, plugin, session.throttle)


def _command(slot: str, plugin: LogPlugin) -> bytes:
    # the replication commands know no E'' strings, which the driver's literals may be
    options = ", ".join(
        f"{quoted(name)} '{value.replace(chr(39), chr(39) * 2)}'"
        for name, value in plugin.options.items()
    )
    return f"START_REPLICATION SLOT {quoted(slot)} LOGICAL 0/0 ({options})".encode()
