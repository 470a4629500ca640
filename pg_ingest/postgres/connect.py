"""The one way a connection is made, and the settings every session of ours has.

Secrets are read here, for each connection anew, and go nowhere but to libpq. Settings follow in one query
after the login rather than as the startup packet's `options`, which connection poolers refuse.

Behind a pooler in transaction mode they would stay with a server process that somebody else gets next: an
application of the same role would find itself read-only, with another search_path and timeouts. A pooler gives
its clients process numbers of its own. So where the server calls its process otherwise than the login did,
nothing is set for longer than a transaction (`Session.pooled`).
"""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from psycopg import sql

from pg_ingest.config.model import SourceConfig
from pg_ingest.config.password import RdsIam
from pg_ingest.config.secret import Secret
from pg_ingest.errors import MethodUnavailable, PgIngestError
from pg_ingest.postgres.address import address
from pg_ingest.postgres.certificate_faults import certificate_fault
from pg_ingest.postgres.connection_faults import connection_fault
from pg_ingest.postgres.faults import translated
from pg_ingest.postgres.pinned import connect_pinned
from pg_ingest.postgres.tls import tls_parameters

log = logging.getLogger(__name__)

OLDEST_VERSION = 90400
"""Replica identity, COPY's settings and WITH ORDINALITY are all there from here on."""

OLDEST_SUPPORTED = 100000
NEWEST_SUPPORTED = 18

IDLE_IN_TRANSACTION_SECONDS = 3600
"""A destination may need minutes to commit while our snapshot is open; a process that hangs must not hold
the source's xmin horizon for ever."""


def open_connection(
    source: str, config: SourceConfig, database: str, purpose: str, *, replication: bool = False
) -> psycopg.Connection[Any]:
    """A connection in autocommit mode with our settings; raises what `faults` makes of a failure.

    `replication`: one that also knows the replication commands, for logical replication of `database`.
    """
    chosen = parameters(source, config, database, purpose)
    if replication:
        chosen["replication"] = "database"
    with address(config) as reached:
        chosen |= reached
        try:
            connection = _connected(config, chosen)
        except psycopg.Error as error:
            fault = connection_fault(
                error,
                host=config.host,
                port=config.port,
                user=config.user,
                database=database,
                look=lambda: certificate_fault(config, chosen),
            )
            if error.pgconn is not None:
                error.pgconn.finish()
            raise fault from None
    try:
        refuse_old(connection.info.server_version, config.host)
        with translated(f"preparing a session in database {database}", role=config.user):
            chosen_settings = settings(config, connection.info.server_version)
            through: sql.Composable = sql.SQL("false")
            if not replication:  # which no pooler shares
                number = sql.Literal(connection.info.backend_pid)
                through = sql.SQL("pg_catalog.pg_backend_pid() <> {}").format(number)
            connection.execute(_settings_query(chosen_settings, through))
    except BaseException:
        connection.close()
        raise
    return connection


def kept_password(config: SourceConfig) -> str | None:
    """The password if it is one that was read earlier, and may be an old one by now."""
    password = config.password
    return password.reveal() if isinstance(password, Secret) and password.is_kept else None


def renewed(config: SourceConfig, used: str | None) -> bool:
    """Whether the password has become another than the `used` one, which was refused.

    Rotation has changed it where it comes from, then.
    """
    secret = config.password
    if used is None or not isinstance(secret, Secret):
        return False
    try:
        return secret.reveal(fresh=True) != used
    except PgIngestError as error:  # then it is the refused login that has to be told
        log.warning("the password cannot be read again: %s", error.message)
        return False


def _connected(config: SourceConfig, chosen: dict[str, Any]) -> psycopg.Connection[Any]:
    if config.tls is not None and config.tls.fingerprint:
        connection = connect_pinned(
            config.tls.fingerprint, config.limits.connect_timeout, dict(chosen)
        )
    else:
        connection = psycopg.connect(**chosen)
    connection.autocommit = True
    connection.prepare_threshold = None  # poolers in transaction mode lose prepared statements
    return connection


def parameters(source: str, config: SourceConfig, database: str, purpose: str) -> dict[str, Any]:
    """libpq's parameters but for the address; raises what reading the secrets raises."""
    chosen: dict[str, Any] = {
        "user": config.user,
        "dbname": database,
        "application_name": f"pg_ingest/{source}/{purpose}"[:63],  # NAMEDATALEN - 1
        "connect_timeout": config.limits.connect_timeout,
        "client_encoding": "UTF8",
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        **tls_parameters(config),
    }
    match config.password:
        case Secret() as secret:
            chosen["password"] = secret.reveal()
        case RdsIam() as iam:
            chosen["password"] = iam.token(config.host, config.port, config.user)
    return chosen


def settings(config: SourceConfig, server_version: int) -> dict[str, str]:
    """Server settings by name: those that decide how values are written, and those that protect."""
    chosen = {
        "DateStyle": "ISO, YMD",
        "TimeZone": "UTC",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "1" if server_version >= 120000 else "3",
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "xmlbinary": "base64",
        "quote_all_identifiers": "off",  # names of types are compared as they print
        "client_min_messages": "warning",  # wal2json warns of changes that it leaves out
        "search_path": "pg_catalog, pg_temp",
        "default_transaction_read_only": "on",
        "statement_timeout": _milliseconds(config.limits.query_timeout),
        "lock_timeout": _milliseconds(config.limits.lock_timeout),
    }
    if server_version >= 90500:
        chosen["row_security"] = "off"  # a hidden row becomes an error
    if server_version >= 90600:
        chosen["idle_in_transaction_session_timeout"] = _milliseconds(IDLE_IN_TRANSACTION_SECONDS)
    return chosen


def settings_query(chosen: dict[str, str], *, local: bool = False) -> sql.Composed:
    """One SELECT that applies the settings; `local` binds them to the transaction."""
    return _settings_query(chosen, sql.SQL("true" if local else "false"))


def _settings_query(chosen: dict[str, str], local: sql.Composable) -> sql.Composed:
    calls = (
        sql.SQL("pg_catalog.set_config({}, {}, {})").format(
            sql.Literal(name), sql.Literal(value), local
        )
        for name, value in chosen.items()
    )
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000))


def refuse_old(server_version: int, host: str) -> None:
    """Raise MethodUnavailable for a server before 9.4."""
    if server_version < OLDEST_VERSION:
        raise MethodUnavailable(
            f"the server on {host} is too old",
            detail=f"it is PostgreSQL {version_text(server_version)}; 10 to 18 are supported, 9.4 to"
            " 9.6 work as far as they can",
            hint="upgrade the server",
        )


def version_note(server_version: int) -> str | None:
    """What to tell about a version outside the supported range, None inside it."""
    text = version_text(server_version)
    if server_version < OLDEST_SUPPORTED:
        return (
            f"PostgreSQL {text} is older than 10: this works as far as it can, but is not supported"
        )
    if server_version // 10000 > NEWEST_SUPPORTED:
        return f"PostgreSQL {text} is newer than any version this release was tested with (18)"
    return None


def version_text(server_version: int) -> str:
    """`180001` as `18.1`, `90624` as `9.6.24`."""
    major, rest = divmod(server_version, 10000)
    return f"{major}.{rest}" if major >= 10 else f"{major}.{rest // 100}.{rest % 100}"
