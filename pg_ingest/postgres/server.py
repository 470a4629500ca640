"""One source server: how sessions with it are opened, counted and tried again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from pg_ingest.config.model import SourceConfig
from pg_ingest.errors import LoginFailed, PassingFault, SourceUnreachable
from pg_ingest.postgres.address import blaming_tunnel
from pg_ingest.postgres.connect import kept_password, open_connection, renewed
from pg_ingest.postgres.guard import Guard, guard_of
from pg_ingest.postgres.session import Session

log = logging.getLogger(__name__)

RETRY_DELAYS = (0.5, 1.0, 2.0)
"""Seconds before another attempt to connect, each stretched by up to half at random."""

DriverConnection = psycopg.Connection[Any]
"""What `Server.connection` gives to others."""


@dataclass(frozen=True)
class Server:
    """How to reach one source.

    Attributes:
        source: its name in the configuration.
        config: its settings; at most `config.limits.connections` sessions are open at once in this
            process, whichever `Server` of the source made them; further callers wait. A thread that
            holds one should not ask for another: with a single place it would wait for itself.
        retry_delays: see RETRY_DELAYS.
    """

    source: str
    config: SourceConfig
    retry_delays: tuple[float, ...] = RETRY_DELAYS

    @property
    def guard(self) -> Guard:
        """The limits that all of this process share."""
        return guard_of(self.source, self.config)

    @contextmanager
    def session(self, database: str, *, purpose: str = "sync") -> Iterator[Session]:
        """A session in `database`, closed at the end; `purpose` is seen in pg_stat_activity.

        Raises LoginFailed, PermissionMissing, SourceUnreachable or SourceBusy.
        """
        with self.connection(database, purpose=purpose) as opened, blaming_tunnel(self.config):
            session = self._session(database, opened, purpose)
            try:
                yield session
            except SourceUnreachable as fault:
                raise session.reason_of(fault) from None
            finally:
                session.close()

    @contextmanager
    def connection(self, database: str, *, purpose: str = "sync") -> Iterator[DriverConnection]:
        """The driver's own connection, in autocommit mode, for others than this package; closed at the end.

        It has the settings of a session: nothing can be written unless the caller sets
        `default_transaction_read_only` to `off`. Raises as `session`; its own failures are the driver's.
        """
        with self.guard.places:
            connection = self._connect(database, purpose)
            try:
                yield connection
            finally:
                connection.close()

    @contextmanager
    def spare_session(self, database: str, *, purpose: str = "sync") -> Iterator[Session | None]:
        """A further session if there is a place for it right now, else None; never waits for one.

        For work that goes faster with more sessions but does not need them, so a thread that holds one may
        ask. A server that takes no more connections counts as no place.
        """
        with ExitStack() as stack:
            stack.enter_context(blaming_tunnel(self.config))
            connection = None
            places = self.guard.places
            if places.acquire(blocking=False):
                stack.callback(places.release)
                try:
                    connection = self._open(database, purpose)
                    stack.callback(connection.close)
                except PassingFault as fault:
                    log.info("no further connection: %s", fault.message)
            if connection is None:
                yield None
                return
            session = self._session(database, connection, purpose)
            stack.callback(session.close)
            yield session

    def _session(self, database: str, connection: psycopg.Connection[Any], purpose: str) -> Session:
        spare = partial(self.spare_session, database)
        reopen = partial(self._connect, database, purpose)
        return Session(self.source, self.config, database, connection, spare, reopen)

    def _connect(self, database: str, purpose: str) -> psycopg.Connection[Any]:
        for delay in self.retry_delays:
            try:
                return self._open(database, purpose)
            except PassingFault as fault:
                log.info("connection failed, trying again: %s", fault.message)
                time.sleep(delay * random.uniform(1.0, 1.5))
        return self._open(database, purpose)

    def _open(self, database: str, purpose: str) -> psycopg.Connection[Any]:
        """One attempt; a second one when the login was refused and the kept password is an old one."""
        used = kept_password(self.config)
        try:
            return open_connection(self.source, self.config, database, purpose)
        except LoginFailed:
            if not renewed(self.config, used):
                raise
            log.info("the password was rotated: logging in with the new one")
        return open_connection(self.source, self.config, database, purpose)
