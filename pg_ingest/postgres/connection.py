"""A connection on which our settings hold, whoever is in between, and which remembers why it ended.

Behind a pooler in transaction mode each transaction may run on another connection of the server's. So nothing
is set there for longer than a transaction, and what would run outside of one gets one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import pq

from pg_ingest.config.model import SourceConfig
from pg_ingest.errors import PgIngestError
from pg_ingest.postgres.connect import settings, settings_query
from pg_ingest.postgres.faults import Subject, fault_of

log = logging.getLogger(__name__)

_STATUS = pq.TransactionStatus


class Connection:
    """What a session speaks through.

    Attributes:
        driver: psycopg's connection, in autocommit mode; another one after `renew`.
        pooled: a pooler is in between; whoever finds that out sets it.
        farewell: what the server said when it ended the connection, if it did.
    """

    def __init__(
        self,
        config: SourceConfig,
        database: str,
        driver: psycopg.Connection[Any],
        reopen: Callable[[], psycopg.Connection[Any]],
    ) -> None:
        self.driver = driver
        self.pooled = False
        self.farewell: PgIngestError | None = None
        self._config = config
        self._subject = Subject(f"between two statements in database {database}", role=config.user)
        self._reopen = reopen
        driver.add_notice_handler(self._hear)

    @property
    def busy(self) -> bool:
        """A statement is running."""
        return self.driver.pgconn.transaction_status == _STATUS.ACTIVE

    @property
    def usable(self) -> bool:
        """Statements can be run, in a transaction or not."""
        return self.driver.pgconn.transaction_status in (_STATUS.IDLE, _STATUS.INTRANS)

    @property
    def idle(self) -> bool:
        """No transaction is open."""
        return self.driver.pgconn.transaction_status == _STATUS.IDLE

    def close(self) -> None:
        """End it."""
        self.driver.close()

    def renew(self) -> None:
        """Another one, in the same place, if this one has ended."""
        if not self.usable:
            self.close()
            self.driver = self._reopen()
            self.farewell = None
            self.driver.add_notice_handler(self._hear)

    @contextmanager
    def listening(self, hear: Callable[[str], None]) -> Iterator[None]:
        """Call `hear` with the primary message of each notice and warning of the server."""

        def told(notice: psycopg.errors.Diagnostic) -> None:
            hear(notice.message_primary or "")

        driver = self.driver
        driver.add_notice_handler(told)
        try:
            yield
        finally:
            driver.remove_notice_handler(told)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Behind a pooler, a transaction with our settings, unless one is open."""
        if not (self.pooled and self.idle):
            yield
            return
        with self.transaction("BEGIN READ ONLY"):
            yield

    @contextmanager
    def transaction(self, begin: LiteralString) -> Iterator[None]:
        """A transaction with our settings, committed at the end, rolled back where that is not reached."""
        self.driver.execute(begin)
        try:
            self.bind_settings()
            yield
            self.driver.execute("COMMIT")
        finally:
            if not self.idle:
                self.roll_back()

    def bind_settings(self) -> None:
        """All of ours, for the open transaction."""
        pinned = settings(self._config, self.driver.info.server_version)
        self.driver.execute(settings_query(pinned, local=True))

    def set_timeout(self, seconds: float) -> None:
        """The `statement_timeout`; behind a pooler until the transaction ends."""
        timeout = {"statement_timeout": str(int(seconds * 1000))}
        self.driver.execute(settings_query(timeout, local=self.pooled))

    def roll_back(self) -> None:
        """End the transaction; the connection too, where that fails."""
        if not self.driver.closed:
            try:
                self.driver.execute("ROLLBACK")
            except psycopg.Error:
                log.info("the connection broke; its transaction ended with it")
                self.driver.close()

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        """An error that answers no statement comes as a notice: the server says why it ends the connection."""
        if notice.severity_nonlocalized == "FATAL" and notice.sqlstate:
            self.farewell = fault_of(notice.sqlstate, notice.message_primary or "", self._subject)
