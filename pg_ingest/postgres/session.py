"""A session with a source.

It is read-only at the server, holds at most one transaction, and every failure comes out as one of
`pg_ingest.errors`. The single exception is `change`, for our own publication.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pg_ingest.config.log import LogConfig
from pg_ingest.config.model import Limits, SourceConfig
from pg_ingest.errors import PgIngestError, SourceBusy, SourceUnreachable
from pg_ingest.postgres.connect import open_connection, settings_query, version_note
from pg_ingest.postgres.connection import Connection
from pg_ingest.postgres.copy import CopyFormat, CopyStream
from pg_ingest.postgres.encryption import Encryption, encryption_of
from pg_ingest.postgres.faults import Subject, translated
from pg_ingest.postgres.guard import guard_of
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.snapshot import Anchor, Snapshot, snapshot_query
from pg_ingest.postgres.tls import tls_mode

_ANY_BYTES = "SQL_ASCII"
"""The encoding of a database whose texts may be any bytes: nothing is checked, nothing converted."""

_SILENCE_SECONDS = 60
"""Beyond the statement timeout, which the server would have reported."""

_SNAPSHOT_GONE = ("22023", "42704", "55000")
"""No such snapshot (before 17 and since), or nobody holds it any more."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The planner's guess for a SELECT: rows, and bytes of a row."""

    rows: int
    row_width: int


class Session:
    """An open session; made by `Server.session`.

    Attributes:
        database: where it is connected to.
        server_version: as in 180001.
        is_standby: the server is in recovery.
        role: who we are.
        spare: `Server.spare_session` for the same database.
        throttle: what is read from the source is counted by it, over all of this process.
        limits, log: of the source's configuration.
        notes: what the user should know about this server, one line each.
    """

    def __init__(
        self,
        source: str,
        config: SourceConfig,
        database: str,
        connection: psycopg.Connection[Any],
        spare: Callable[[], AbstractContextManager[Session | None]],
        reopen: Callable[[], psycopg.Connection[Any]],
    ) -> None:
        self.spare = spare
        self.throttle = guard_of(source, config).throttle
        self.source = source
        self.database = database
        self.limits: Limits = config.limits
        self.log: LogConfig = config.log
        self.role = config.user
        self.server_version = connection.info.server_version
        note = version_note(self.server_version)
        self.notes: tuple[str, ...] = () if note is None else (note,)
        self._config = config
        self._line = Connection(config, database, connection, reopen)
        ((self.is_standby, number),) = self.rows("SELECT pg_is_in_recovery(), pg_backend_pid()")
        self._line.pooled = number != connection.info.backend_pid

    @property
    def pooled(self) -> bool:
        """Whether a connection pooler is in between; see `connection.py`."""
        return self._line.pooled

    @property
    def encryption(self) -> Encryption | None:
        """What this connection negotiated, and whether the server is known; None for plain text."""
        pins = self._config.tls.fingerprint if self._config.tls else ()
        return encryption_of(self._line.driver.pgconn, tls_mode(self._config), pins)

    @property
    def encoding(self) -> str:
        """The database's, as the server calls it."""
        return self._line.driver.info.parameter_status("server_encoding") or ""

    def reason_of(self, fault: PgIngestError) -> PgIngestError:
        """What the server said when it ended the connection, if that is why this one broke; else the fault."""
        farewell = self._line.farewell
        return farewell if isinstance(fault, SourceUnreachable) and farewell else fault

    def renew(self) -> None:
        """Another connection, in the same place, if this one has ended."""
        self._line.renew()

    def close(self) -> None:
        """End the connection."""
        self._line.close()

    def listening(self, hear: Callable[[str], None]) -> AbstractContextManager[None]:
        """Call `hear` with the primary message of each notice and warning of the server."""
        return self._line.listening(hear)

    def rows(
        self,
        query: str | sql.Composable,
        params: Sequence[Any] = (),
        *,
        what: str = "asking the server",
    ) -> list[tuple[Any, ...]]:
        """All rows of a small result. Parameters are written `%s`, a percent sign beside them `%%`.

        Raises RuntimeError while a `copy` of this session is being read.
        """
        if self._line.busy:
            raise RuntimeError("this session is busy with a COPY")
        with translated(f"{what} in database {self.database}", role=self.role), self._line.pinned():
            driver = self._line.driver
            text = query.as_bytes(driver) if isinstance(query, sql.Composable) else query
            found: list[tuple[Any, ...]] = driver.execute(text, params or None).fetchall()
            return found

    @contextmanager
    def snapshot(self, exported: str = "", *, anchor: Anchor | None = None) -> Iterator[Snapshot]:
        """A read-only repeatable-read transaction, rolled back at the end.

        `exported`: see just what that snapshot of another session sees, which is still open there
        (`export_snapshot`); or what an `anchor` does, that is still held. SourceBusy when it is not any more.

        The settings are bound to the transaction once more: behind a pooler in transaction mode it may run
        on another server connection than the one that was prepared.
        """
        what = f"taking a snapshot of database {self.database}"
        with translated(what, role=self.role):
            self._line.driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            with translated(what, role=self.role):
                if name := exported or (anchor.name if anchor else ""):
                    self._take_over(name)
                self._line.bind_settings()
            (row,) = self.rows(snapshot_query(self.server_version, self.is_standby))
            yield Snapshot.parse(*row, anchor=anchor)
        finally:
            self._line.roll_back()

    def _take_over(self, name: str) -> None:
        try:
            self._line.driver.execute(
                sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name))
            )
        except psycopg.Error as error:
            if error.sqlstate not in _SNAPSHOT_GONE:
                raise
            raise SourceBusy(
                f"the snapshot that was shared in database {self.database} is gone",
                detail=f"sqlstate {error.sqlstate}",
                hint="the connection that held it has ended; it is tried again",
            ) from None

    def export_snapshot(self) -> str:
        """The name by which other sessions see what this one's open snapshot sees, while it is open.

        On standbys since version 10.
        """
        ((name,),) = self.rows("SELECT pg_catalog.pg_export_snapshot()", what="sharing a snapshot")
        return str(name)

    @contextmanager
    def copy(self, query: SelectQuery) -> Iterator[CopyStream]:
        """The rows of `query` as CSV bytes, under `limits.statement_timeout`; see CopyStream.

        A text that is quoted and empty is the empty string, an unquoted nothing is NULL. The bytes are UTF-8
        but for those a database of encoding SQL_ASCII holds: it sends them as they are.
        """
        subject = Subject(f"reading {query.table}", query.table, self.role)
        encoding = _ANY_BYTES if self.encoding == _ANY_BYTES else None
        with self._long_copy(query.statement, subject, CopyFormat.CSV, encoding) as stream:
            yield stream

    @contextmanager
    def copy_binary(
        self, statement: sql.Composable, what: str, *, any_bytes: bool = False
    ) -> Iterator[CopyStream]:
        """The rows of a SELECT in COPY's binary format; else as `copy`. Read it with `rows`.

        `any_bytes`: what the SELECT calls need not be UTF-8 either in a database of encoding SQL_ASCII.
        """
        subject = Subject(what, None, self.role)
        encoding = _ANY_BYTES if any_bytes and self.encoding == _ANY_BYTES else None
        with self._long_copy(statement, subject, CopyFormat.BINARY, encoding) as rows:
            yield rows

    def replication_connection(self) -> psycopg.Connection[Any]:
        """A second connection with the same settings, for the streaming protocol; the caller closes it.

        The server counts it among `max_wal_senders`, so it is none of `limits.connections`.
        """
        opened = open_connection(
            self.source, self._config, self.database, "stream", replication=True
        )
        if self.encoding == _ANY_BYTES:
            opened.execute(settings_query({"client_encoding": _ANY_BYTES}))
        return opened

    def change(self, statements: Sequence[sql.Composable], *, what: str) -> None:
        """Run these in one transaction that may write: the only way this package changes a source.

        All or nothing. Raises PermissionMissing and whatever else `faults` makes of a refusal.
        """
        with translated(f"{what} in database {self.database}", role=self.role):
            driver = self._line.driver
            with self._line.transaction("BEGIN READ WRITE"):
                for statement in statements:
                    driver.execute(statement.as_bytes(driver))

    @contextmanager
    def _long_copy(
        self,
        statement: sql.Composable,
        subject: Subject,
        form: CopyFormat,
        encoding: str | None = None,
    ) -> Iterator[CopyStream]:
        with ExitStack() as pinned:
            with translated(subject.what, table=subject.table, role=self.role):
                pinned.enter_context(self._line.pinned())
                self._line.set_timeout(self.limits.statement_timeout)
            yield pinned.enter_context(self._copy_stream(statement, subject, form, encoding))

    @contextmanager
    def _copy_stream(
        self, statement: sql.Composable, subject: Subject, form: CopyFormat, encoding: str | None
    ) -> Iterator[CopyStream]:
        silence = self.limits.statement_timeout + _SILENCE_SECONDS
        try:
            with CopyStream(
                self._line.driver,
                statement,
                subject,
                silence=silence,
                form=form,
                encoding=encoding,
                throttle=self.throttle,
            ) as stream:
                yield stream
        finally:
            if self._line.usable:
                with translated(f"after {subject.what}", role=self.role):
                    self._line.set_timeout(self.limits.query_timeout)
                    if encoding is not None:
                        self._line.driver.execute(settings_query({"client_encoding": "UTF8"}))

    def explain(self, query: SelectQuery) -> Estimate:
        """Let the server judge a SELECT without running it, and estimate its size.

        Raises QueryRefused when the row filter is not one boolean expression over the relation,
        PermissionMissing, or SourceTableChanged when the relation or a selected column is gone.
        """
        if query.where_check is not None:
            what = f"the row filter (`where`) of {query.table}"
            self._explain(query.where_check, query, what, user_text=True)
        ((plans,),) = self._explain(query.statement, query, f"reading {query.table}")
        plan = plans[0]["Plan"]
        return Estimate(int(plan["Plan Rows"]), int(plan["Plan Width"]))

    def _explain(
        self, statement: sql.Composable, query: SelectQuery, what: str, *, user_text: bool = False
    ) -> list[tuple[Any, ...]]:
        asked = sql.SQL("EXPLAIN (FORMAT JSON) {}").format(statement)
        subject = translated(what, table=query.table, role=self.role, user_text=user_text)
        with subject, self._line.pinned():
            # binary results travel by the extended protocol, which takes a single statement only
            return self._line.driver.execute(asked, binary=True).fetchall()

    def shares_its_process(self) -> bool:
        """Whether the pooler in between gives the server's processes to whoever begins a transaction."""
        asked = "SELECT pg_catalog.pg_backend_pid()"
        before = self.rows(asked)
        with closing(
            open_connection(self.source, self._config, self.database, "pooler")
        ) as another:
            met = another.execute(asked).fetchall()
        return met == before or self.rows(asked) != before
