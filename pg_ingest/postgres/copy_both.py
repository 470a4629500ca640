"""A connection on which server and client speak at the same time: the COPY BOTH of a walsender.

The server ends a stream whose reader is silent for `wal_sender_timeout`. While `receive` waits, its wait loop
reports; at any other time, a thread does. libpq does not allow two threads in one connection, so whoever uses
it holds a lock, for a whole piece at a time.

A report says two things: what is durable with us, which moves the slot, and whether the server should answer
how far it has read its log.

Facts: manual, "Streaming Replication Protocol"; src/backend/replication/walsender.c.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from pg_ingest.decode.copy_both import KEEPALIVE_BYTES, read_keepalive, status_update, unframe
from pg_ingest.decode.messages import Messages
from pg_ingest.errors import SourceBusy, SourceUnreachable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.copy import drained
from pg_ingest.postgres.faults import translated

log = logging.getLogger(__name__)

_REPORT_SECONDS = 10.0
"""The longest time between two reports; a third of `wal_sender_timeout` where that is shorter."""

_ASK_SECONDS = 0.2
"""How long nothing may arrive before the server is asked how far it is."""

_FAREWELL_SECONDS = 2.0
"""How long the server may go on sending after we said that we are done, before it is cancelled."""

_CANCEL_SECONDS = 10.0
"""How long a cancelled stream may take to end before the connection is closed as it is."""


class CopyBoth:
    """What a replication command began; use it as a context manager.

    Leaving it ends the stream and closes the connection; the slot is free then, unless the server did not
    react for several seconds.

    Attributes:
        sent_upto: all that the server's log holds before this position has been received.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        command: bytes,
        what: str,
        *,
        role: str,
        patience: float,
    ) -> None:
        """Begin; `connection` is closed with it.

        Args:
            command: START_REPLICATION, as it is sent.
            what: we are doing, for errors.
            patience: seconds without any progress after which `receive` raises SourceBusy.
        """
        self._what = what
        self.sent_upto = Lsn(0)
        self._connection = connection
        self._pgconn = connection.pgconn
        self._role = role
        self._patience = patience
        self._durable = Lsn(0)
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
                self._start(command)
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

    def confirm(self, lsn: Lsn) -> None:
        """Report that everything before `lsn` is durable."""
        self._durable = max(self._durable, lsn)
        with self._using, self._faults():
            self._report(ask=False)

    def receive(self, upto: Lsn, size: int) -> Messages:
        """About `size` bytes of messages; less when the server says that no more come before `upto`.

        Raises SourceBusy, SourceUnreachable, ProtocolError, and what `faults` makes of a failure.
        """
        with self._using, self._faults():
            return self._received(upto, size)

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

    def _received(self, upto: Lsn, size: int) -> Messages:
        rows = bytearray()
        lengths: list[int] = []
        self._progress_at = time.monotonic()
        next_row = self._pgconn.get_copy_data
        while len(rows) < size:
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
                self._refused(self._result())
        return unframe(np.frombuffer(rows, dtype=np.uint8), np.array(lengths, dtype=np.int64))

    def _heard(self, keepalive: bytes) -> Lsn:
        position, wanted = read_keepalive(keepalive)
        if position > self.sent_upto:
            self.sent_upto = position
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
        if (mark := (received, self.sent_upto)) != self._mark:
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
        return drained(self._pgconn, self._selector, seconds)
