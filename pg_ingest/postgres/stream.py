"""The changes in a slot, read by the streaming replication protocol.

One START_REPLICATION serves as many rounds of `pieces` and `confirm` as are wanted: the server decodes its
log once, where every peek begins anew at the slot's position. It sends each message on its own, so for
a backlog of small transactions the SQL functions are several times faster.

Where it ends. Every answer to a question of ours, and every keepalive, says how far the server has read
its log; all that it found there was sent before. So an idle database answers at once, and on a busy one
what commits behind `upto` is kept for the next round.

What the server is told. `flush` moves the slot, so it only ever says what `confirm` was called with.
The server ends a stream whose reader is silent for `wal_sender_timeout`. While `pieces` runs, its wait loop
reports; while the caller decodes and writes, a thread does. libpq does not allow two threads in one
connection, so whoever uses it holds a lock, for a whole piece at a time.

What it must not do to the server: keep a fast shutdown waiting. The server then waits for `flush` to reach
the end of its log, so a stream is opened for one capture and closed with it, and not kept.

Facts: manual, "Streaming Replication Protocol"; src/backend/replication/walsender.c.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from pg_ingest.decode.copy_both import (
    KEEPALIVE_BYTES,
    end_of_transaction,
    read_keepalive,
    split,
    status_update,
    transactions_before,
    unframe,
)
from pg_ingest.decode.messages import Messages
from pg_ingest.errors import MethodUnavailable, SourceBusy, SourceUnreachable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.faults import quoted, translated
from pg_ingest.postgres.plugin import LogPlugin
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.wal import PIECE_BYTES

log = logging.getLogger(__name__)

_REPORT_SECONDS = 10.0
"""The longest time between two reports; a third of `wal_sender_timeout` where that is shorter."""

_ASK_SECONDS = 0.2
"""How long nothing may arrive before the server is asked how far it is."""

_FAREWELL_SECONDS = 2.0
"""How long the server may go on sending after we said that we are done, before it is cancelled."""

_CANCEL_SECONDS = 10.0
"""How long a cancelled stream may take to end before the connection is closed as it is."""

_READ_AS_THEY_ARE = ("UTF8", "SQL_ASCII")

_NOTHING = Messages.of([])


class StreamReader:
    """A WalReader over START_REPLICATION; use it as a context manager.

    Leaving it ends the stream and closes the connection; the slot is free then, unless the server did not
    react for several seconds.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], plugin: LogPlugin, slot: str, session: Session
    ) -> None:
        """Start the stream; see `stream`. `connection` is closed with it."""
        self._connection = connection
        self._plugin = plugin
        self._pgconn = connection.pgconn
        self._what = f"streaming slot {slot}"
        self._role = session.role
        self._patience = session.limits.statement_timeout
        self._throttle = session.throttle
        self._durable = Lsn(0)
        self._sent_upto = Lsn(0)
        self._kept = _NOTHING
        self._between_rounds = True
        self._copying = False
        self._mark = (0, 0)
        self._progress_at = self._asked_at = time.monotonic()
        self._using = threading.Lock()
        self._closing = threading.Event()
        self._reporter = threading.Thread(target=self._report_while_away, daemon=True)
        self._selector = selectors.DefaultSelector()
        try:
            self._selector.register(self._pgconn.socket, selectors.EVENT_READ)
            with self._faults():
                self._report_seconds = self._allowed_silence()
                self._start(_command(slot, plugin))
            self._reporter.start()
        except BaseException:
            self._selector.close()
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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
        """See WalReader. The slot has moved at the latest when this reader is closed."""
        self._durable = max(self._durable, lsn)
        with self._using, self._faults():
            self._report(ask=False)

    def close(self) -> None:
        """End the stream and close the connection; never raises."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._reporter.join()
        try:
            if self._pgconn.status == pq.ConnStatus.OK:
                self._leave()
        except psycopg.Error:
            log.info("the stream could not be ended in order; its connection is closed")
        finally:
            self._selector.close()
            self._connection.close()

    def _allowed_silence(self) -> float:
        asked = "SELECT setting::int FROM pg_settings WHERE name = 'wal_sender_timeout'"
        ((milliseconds,),) = self._connection.execute(asked).fetchall()
        return min(_REPORT_SECONDS, milliseconds / 3000 or _REPORT_SECONDS)

    def _start(self, command: bytes) -> None:
        self._pgconn.send_query(command)
        while self._pgconn.flush():
            self._selector.select(_ASK_SECONDS)
        result = self._result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            self._refused(result)
        self._copying = True

    def _before(self, upto: Lsn) -> tuple[Messages, bool]:
        """The next messages of transactions that commit before `upto`; and whether those are all."""
        found, self._kept = self._kept, _NOTHING
        if not len(found) and self._sent_upto < upto:
            with self._using, self._faults():
                found = self._receive(upto)
            self._throttle.spend(found.buffer.nbytes)  # not in use: the thread goes on reporting
        count = transactions_before(len(found), self._plugin.begins(found), upto)
        if count < len(found):
            found, self._kept = split(found, count)
            return found, True
        return found, self._sent_upto >= upto

    def _keep_before(self, rest: Messages) -> None:
        """Put `rest` before what is kept; both are pieces of one buffer."""
        starts = np.concatenate([rest.starts, self._kept.starts])
        lengths = np.concatenate([rest.lengths, self._kept.lengths])
        self._kept = Messages(rest.buffer, starts, lengths)

    def _receive(self, upto: Lsn) -> Messages:
        """A piece, or less when the server says that nothing more comes before `upto`."""
        rows = bytearray()
        lengths: list[int] = []
        self._progress_at = time.monotonic()
        next_row = self._pgconn.get_copy_data
        while len(rows) < PIECE_BYTES:
            length, row = next_row(1)
            if length > KEEPALIVE_BYTES:
                rows += row
                lengths.append(length)
            elif length > 0:
                if self._heard(bytes(row)) >= upto:
                    break
            elif length == 0:
                self._wait(len(lengths))
            else:
                self._copying = False
                self._refused(self._result())
        return unframe(np.frombuffer(rows, dtype=np.uint8), np.array(lengths, dtype=np.int64))

    def _heard(self, keepalive: bytes) -> Lsn:
        position, wanted = read_keepalive(keepalive)
        if position > self._sent_upto:
            self._sent_upto = position
        if wanted:
            self._report(ask=False)
        return position

    def _wait(self, received: int) -> None:
        """Wait for bytes, report in time, ask when none come; raise when nothing moves for long."""
        self._selector.select(min(_ASK_SECONDS, self._report_seconds))
        self._pgconn.consume_input()  # also without news: TLS may hold back what it has read
        now = time.monotonic()
        if now - self._asked_at >= _ASK_SECONDS:
            self._asked_at = now
            self._report(ask=True)
        if (mark := (received, self._sent_upto)) != self._mark:
            self._mark = mark
            self._progress_at = now
        elif now - self._progress_at > self._patience:
            raise SourceBusy(
                f"{self._what}: no progress for {self._patience:.0f} s",
                hint="it is tried again; raise `limits.statement_timeout` if the server needs longer",
            )

    def _report(self, *, ask: bool) -> None:
        self._pgconn.put_copy_data(status_update(self._durable, ask=ask))
        self._pgconn.flush()

    def _report_while_away(self) -> None:
        """The thread: report whenever the connection is not in use and the last report is old."""
        while not self._closing.wait(self._report_seconds / 2):
            if self._using.acquire(blocking=False):
                try:
                    self._report(ask=False)
                except psycopg.Error:
                    return  # whoever uses the connection next is told
                finally:
                    self._using.release()

    def _result(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            self._selector.select(_ASK_SECONDS)
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _refused(self, result: pq.abc.PGresult | None) -> NoReturn:
        """Raise what the server said instead of going on."""
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
        raise SourceUnreachable(
            f"{self._what}: the server ended the stream",
            hint="it is tried again; the server's log says whether it was shut down",
        )

    def _faults(self) -> Any:
        return translated(self._what, role=self._role)

    def _leave(self) -> None:
        """Say goodbye; cancel when the server goes on, in the middle of a transaction, all the same."""
        self._report(ask=False)
        self._pgconn.put_copy_end()
        self._pgconn.flush()
        if not self._drained(_FAREWELL_SECONDS):
            self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
            self._drained(_CANCEL_SECONDS)

    def _drained(self, seconds: float) -> bool:
        """Throw away what is still on its way; whether the stream has ended within that time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._copying:
                size, _ = self._pgconn.get_copy_data(1)
                self._copying = size >= 0
                if size != 0:
                    continue
            elif not self._pgconn.is_busy():
                if self._pgconn.get_result() is None:
                    return True
                continue
            self._selector.select(_ASK_SECONDS)
            self._pgconn.consume_input()
        return False


def _command(slot: str, plugin: LogPlugin) -> bytes:
    # the replication commands know no E'' strings, which the driver's literals may be
    options = ", ".join(
        f"{quoted(name)} '{value.replace(chr(39), chr(39) * 2)}'"
        for name, value in plugin.options.items()
    )
    return f"START_REPLICATION SLOT {quoted(slot)} LOGICAL 0/0 ({options})".encode()


def stream(session: Session, slot: str, plugin: LogPlugin) -> StreamReader:
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
    return StreamReader(connection, plugin, slot, session)
