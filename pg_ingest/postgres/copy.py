"""The rows of a SELECT as one stream of bytes, as fast as libpq hands them over.

libpq gives one row a call. Anything done in Python for a row costs more than the row, so `read` does nothing
but append to one buffer until it has what was asked for; no thread, no pipe, no object per value.

The calls never block inside C: `get_copy_data(1)` returns at once when no whole row has arrived, and the wait
is a poll of the socket. So Ctrl-C works at any moment, and a server that went away without a word is noticed.
"""

from __future__ import annotations

import logging
import selectors
import time
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq, sql

from pg_ingest.errors import SourceUnreachable
from pg_ingest.postgres.connect import settings_query
from pg_ingest.postgres.faults import Subject, fault_of, translated
from pg_ingest.postgres.guard import Throttle

log = logging.getLogger(__name__)

_DRAIN_SECONDS = 10.0
"""How long a cancelled statement may take to end before the connection is closed instead."""

_POLL_SECONDS = 0.2
"""How often a connection that is being drained is looked at, though no byte was announced."""


class CopyFormat(StrEnum):
    """COPY's FORMAT."""

    CSV = "csv"
    BINARY = "binary"


class CopyStream:
    """A binary reader of `COPY (SELECT …) TO STDOUT (FORMAT …)`; use it as a context manager.

    Leaving it before the end cancels the statement at the server and leaves the connection usable; where
    that fails in a few seconds, the connection is closed. Either way it returns.

    Attributes:
        bytes_read: bytes received so far.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        statement: sql.Composable,
        subject: Subject,
        *,
        silence: float,
        form: CopyFormat = CopyFormat.CSV,
        encoding: str | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        """Begin.

        Args:
            silence: seconds without a byte after which the server is taken to be gone.
            encoding: the client_encoding to switch to for the rows; the statement is still written in the
                present one. Whoever asked for it switches back.
            throttle: what every buffer that was read is counted by, and waits for.
        """
        self.bytes_read = 0
        self.closed = False
        self._connection = connection
        self._pgconn = connection.pgconn
        self._subject = subject
        self._silence = silence
        self._throttle = throttle or Throttle(None)
        self._pending = bytearray()
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pgconn.socket, selectors.EVENT_READ)
        try:
            rows = sql.SQL("COPY (\n{}\n) TO STDOUT (FORMAT {})")
            self._start(rows.format(statement, sql.SQL(form.value)), encoding)
        except BaseException:
            self.close()
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

    def readable(self) -> bool:
        """True: the streaming reader asks."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At least one whole row and at most `size` bytes, or everything for -1; b"" at the end.

        Raises what `faults` makes of a statement that fails midway or a connection that breaks.
        """
        pending = self._pending
        wanted = self._throttle.portion(size) if size >= 0 else 1 << 62
        if not self._ended and len(pending) < wanted:
            with self._faults():
                self._fill(wanted)
        if len(pending) <= wanted:
            self._pending = bytearray()
            return bytes(pending)
        block = bytes(memoryview(pending)[:wanted])
        del pending[:wanted]
        return block

    def rows(self, size: int) -> tuple[bytearray, list[int]]:
        """At least `size` bytes of whole rows unless the end comes first, and each row's length.

        With the binary format the file's header is part of the first row, and its trailer is one.
        Not to be mixed with `read`. Raises as `read` does.
        """
        rows = bytearray()
        lengths: list[int] = []
        if self._ended:
            return rows, lengths
        with self._faults():
            while len(rows) < size:
                length, row = self._pgconn.get_copy_data(1)
                if length > 0:
                    rows += row
                    lengths.append(length)
                elif length == 0:
                    self._wait(self._silence)
                else:
                    self._finish()
                    break
        self.bytes_read += len(rows)
        self._throttle.spend(len(rows))
        return rows, lengths

    def close(self) -> None:
        """Cancel the statement if it still runs, and wait until the connection is free."""
        if self.closed:
            return
        self.closed = True
        try:
            if not self._ended:
                self._abandon()
        finally:
            self._selector.close()
            self._pending = bytearray()

    def _start(self, statement: sql.Composable, encoding: str | None) -> None:
        """Send it by the extended protocol, which takes a single statement only."""
        with self._faults():
            text = statement.as_bytes(self._connection)
            if encoding is not None:
                self._connection.execute(settings_query({"client_encoding": encoding}))
            self._pgconn.send_query_params(text, None)
            while self._pgconn.flush():
                self._selector.select(0.1)
            self._expect(self._result(), pq.ExecStatus.COPY_OUT)

    def _fill(self, wanted: int) -> None:
        pending, next_row = self._pending, self._pgconn.get_copy_data
        before = len(pending)
        try:
            while len(pending) < wanted:
                size, row = next_row(1)
                if size > 0:
                    pending += row
                elif size == 0:
                    self._wait(self._silence)
                else:
                    self._finish()
                    break
        finally:
            self.bytes_read += len(pending) - before
        self._throttle.spend(len(pending) - before)

    def _wait(self, seconds: float) -> None:
        if not self._selector.select(seconds):
            self._connection.close()
            self._ended = True
            raise SourceUnreachable(
                f"{self._subject.what}: the server has been silent for {seconds:.0f} s",
                hint="the connection is closed and the work tried again",
            )
        self._pgconn.consume_input()

    def _result(self) -> pq.abc.PGresult | None:
        while self._pgconn.is_busy():
            self._wait(self._silence)
        return self._pgconn.get_result()

    def _finish(self) -> None:
        """After the last row: the statement's own verdict, then nothing more."""
        self._expect(self._result(), pq.ExecStatus.COMMAND_OK)
        while self._result() is not None:
            pass
        self._ended = True

    def _expect(self, result: pq.abc.PGresult | None, status: pq.ExecStatus) -> None:
        if result is not None and result.status == status:
            return
        field = pq.DiagnosticField
        state = self._said(result, field.SQLSTATE)
        if not state:
            self._ended = True
            raise psycopg.OperationalError(self._pgconn.get_error_message())
        primary = self._said(result, field.MESSAGE_PRIMARY)
        origin = self._said(result, field.SOURCE_FUNCTION)
        while self._pgconn.status == pq.ConnStatus.OK and self._result() is not None:
            pass
        self._ended = True
        raise fault_of(state, primary, self._subject, origin=origin)

    @staticmethod
    def _said(result: pq.abc.PGresult | None, field: pq.DiagnosticField) -> str:
        said = result.error_field(field) if result is not None else None
        return said.decode("utf-8", "replace") if said else ""

    def _faults(self) -> Any:
        return translated(self._subject.what, table=self._subject.table, role=self._subject.role)

    def _abandon(self) -> None:
        """Cancel, then throw away what is still on its way."""
        self._ended = True
        free = False
        try:
            if self._pgconn.status == pq.ConnStatus.OK:
                self._connection.cancel_safe(timeout=_DRAIN_SECONDS)
                free = drained(self._pgconn, self._selector, _DRAIN_SECONDS)
        except psycopg.Error:
            log.info("the connection could not be freed and is closed")
        finally:
            if not free:
                self._connection.close()


def drained(pgconn: pq.abc.PGconn, selector: selectors.BaseSelector, seconds: float) -> bool:
    """Throw away what is still on its way; whether nothing more comes within that time.

    Raises psycopg.OperationalError when the connection breaks.
    """
    deadline = time.monotonic() + seconds
    copying = False
    while (left := deadline - time.monotonic()) > 0:
        if copying:
            size, _ = pgconn.get_copy_data(1)
            copying = size >= 0
            if size != 0:
                continue
        elif not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return True
            copying = result.status in (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
            continue
        selector.select(min(left, _POLL_SECONDS))
        pgconn.consume_input()
    return False
