"""The one place where the server's and libpq's failures become this package's errors.

A failed *statement* carries an SQLSTATE, which is the same in every language and version, so it decides.
A failed *connection* does not: libpq hands out only a text, and before the login that text is in the
server's own language. The English texts are recognised; with any other, a server that asked for a password
is taken to have refused it, and the rest is a passing fault with the server's words as its detail.

What may be repeated to the user: the primary message of classes that speak about names, rights and
resources. Messages about data (classes 22, 23, P0 and whatever is not listed) may quote a row's value, so
only their SQLSTATE is passed on, and DETAIL and CONTEXT never are. Errors are raised `from None`, because
the driver's exception prints all of them.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pg_ingest.errors import (
    LoginFailed,
    PermissionMissing,
    PgIngestError,
    QueryRefused,
    SourceBusy,
    SourceTableChanged,
    SourceUnreachable,
)
from pg_ingest.table import TableId


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement was about, for the message and the GRANT in its hint.

    Attributes:
        what: "reading public.orders", the start of the message.
        table: the relation concerned, if there is one.
        role: who we are connected as.
        user_text: the statement holds a text of the user's (a row filter) that may name anything, and no
            row is read: names that do not exist are the text's fault, and messages quote no row.
    """

    what: str
    table: TableId | None = None
    role: str = ""
    user_text: bool = False


@contextmanager
def translated(
    what: str, *, table: TableId | None = None, role: str = "", user_text: bool = False
) -> Iterator[None]:
    """Turn any driver error inside the block into one of `pg_ingest.errors`; see Subject."""
    try:
        yield
    except psycopg.Error as error:
        raise statement_fault(error, Subject(what, table, role, user_text)) from None


@dataclass(frozen=True, slots=True)
class _Rule:
    """What an SQLSTATE (or its class, two characters) means. `{what}` is the subject's."""

    error: type[PgIngestError]
    message: str
    hint: str


_TRY_LATER = (
    "it heals by itself when the server has room again; lower `limits.connections` if it recurs"
)

_RULES: dict[str, _Rule] = {
    "08": _Rule(SourceUnreachable, "{what}: the connection broke", "it is tried again"),
    "0A": _Rule(QueryRefused, "{what}: the server cannot do this", "see the server's words above"),
    "25P03": _Rule(
        SourceUnreachable,
        "{what}: the server closed the idle transaction",
        "the destination took longer than the idle timeout; it is tried again",
    ),
    "25P04": _Rule(
        SourceBusy,
        "{what}: the server's transaction_timeout struck",
        "raise `transaction_timeout` for this role: ALTER ROLE … SET transaction_timeout = 0",
    ),
    "28": _Rule(LoginFailed, "{what}: login refused", "check `user`, `password` and pg_hba.conf"),
    "3D000": _Rule(LoginFailed, "{what}: the database does not exist", "check `databases`"),
    "3F000": _Rule(
        SourceTableChanged, "{what}: the schema does not exist", "run `pg-ingest discover`"
    ),
    "40": _Rule(
        SourceBusy,
        "{what}: cancelled by a conflict with recovery on the standby",
        "raise `max_standby_streaming_delay` or set `hot_standby_feedback = on` on the standby,"
        " or read from the primary",
    ),
    "42501": _Rule(PermissionMissing, "{what}: permission denied", ""),
    "42P01": _Rule(
        SourceTableChanged, "{what}: a table does not exist", "run `pg-ingest discover`"
    ),
    "42703": _Rule(
        SourceTableChanged, "{what}: a column does not exist", "run `pg-ingest discover`"
    ),
    "42": _Rule(
        QueryRefused,
        "{what}: the server refuses the statement",
        "names outside pg_catalog must be written with their schema, e.g. public.f(x)",
    ),
    "53300": _Rule(SourceBusy, "{what}: the server has no connection left", _TRY_LATER),
    "53": _Rule(SourceBusy, "{what}: the server is out of a resource", _TRY_LATER),
    "54": _Rule(QueryRefused, "{what}: a limit of the server is exceeded", "select fewer columns"),
    "55000": _Rule(
        QueryRefused, "{what}: the relation is not in a state to be read",
        "a materialized view must be refreshed before it can be read",
    ),
    "55P03": _Rule(
        SourceBusy,
        "{what}: somebody holds a lock on it",
        "it is tried again; raise `limits.lock_timeout` to wait longer",
    ),
    "57014": _Rule(
        SourceBusy,
        "{what}: the statement was cancelled",
        "by a timeout (`limits.statement_timeout`, `limits.query_timeout`) or by an administrator",
    ),
    "57": _Rule(SourceUnreachable, "{what}: the server ended the connection", "it is tried again"),
    "58": _Rule(
        SourceBusy, "{what}: the server has trouble with its system", "see the server's log"
    ),
}  # fmt: skip

_SPEAKS_OF_ROWS = re.compile(r"\A(?!08|0A|25|28|3D|3F|40|42|53|54|55|57|58)")


def statement_fault(error: psycopg.Error, subject: Subject) -> PgIngestError:
    """The error that a failed statement, or a connection that broke under it, stands for."""
    state = error.sqlstate
    if state is None:
        return SourceUnreachable(
            f"{subject.what}: the connection broke",
            detail=_one_line(str(error)),
            hint="it is tried again; the server's log says whether it restarted",
        )
    return fault_of(
        state, error.diag.message_primary or "", subject, origin=error.diag.source_function or ""
    )


def fault_of(state: str, primary: str, subject: Subject, *, origin: str = "") -> PgIngestError:
    """The error for an SQLSTATE; `origin` is the function in the server's source that raised it."""
    if _SPEAKS_OF_ROWS.match(state) and not subject.user_text:
        return QueryRefused(
            f"{subject.what}: the server failed while computing a row",
            detail=f"sqlstate {state}; its words may quote a row, so they are only in the server's log",
            hint="a view, generated column or row filter computes something that fails for some row",
        )
    detail = f"sqlstate {state}: {_one_line(primary)}"
    if state == "42501":
        return _permission(detail, subject, origin)
    named = state in ("42P01", "42703", "3F000")
    if subject.user_text and (state[:2] not in _RULES_OF_SERVER or (named and state != "42P01")):
        return QueryRefused(f"{subject.what}: not valid", detail=detail, hint=_RULES["42"].hint)
    rule = _RULES.get(state) or _RULES.get(state[:2])
    if rule is None:
        return QueryRefused(f"{subject.what}: the server refuses the statement", detail=detail)
    return rule.error(rule.message.format(what=subject.what), detail=detail, hint=rule.hint)


_RULES_OF_SERVER = frozenset({"08", "25", "28", "3D", "40", "53", "55", "57", "58"})


def _permission(detail: str, subject: Subject, origin: str) -> PermissionMissing:
    if origin == "check_enable_rls":
        return PermissionMissing(
            f"{subject.what}: row-level security would hide rows from role {_quoted(subject.role)}",
            detail=detail,
            hint=f"ALTER ROLE {_quoted(subject.role)} BYPASSRLS; a part of a table is never"
            " replicated as if it were the whole",
        )
    return PermissionMissing(
        f"{subject.what}: permission denied",
        detail=detail,
        hint=grant_select(subject.table, subject.role) if subject.table else "",
    )


def grant_select(table: TableId, role: str) -> str:
    """The statements that let `role` read `table`."""
    schema, name = _quoted(table.schema), _quoted(table.name)
    return (
        f"GRANT USAGE ON SCHEMA {schema} TO {_quoted(role)};"
        f" GRANT SELECT ON {schema}.{name} TO {_quoted(role)};"
    )


@dataclass(frozen=True, slots=True)
class _Text:
    """A failed connection's text (English, of the server or of libpq) and what it means."""

    pattern: re.Pattern[str]
    error: type[PgIngestError]
    message: str
    hint: str


def _text(pattern: str, error: type[PgIngestError], message: str, hint: str) -> _Text:
    return _Text(re.compile(pattern, re.IGNORECASE), error, message, hint)


_CONNECTION_TEXTS: tuple[_Text, ...] = (
    _text(
        r"password authentication failed|no password supplied|password retrieved from file"
        r"|PAM authentication failed|LDAP authentication failed|role \".*\" does not exist"
        r"|is not permitted to log in|authentication failed for user",
        LoginFailed,
        "login refused for user {user}",
        "check `user` and `password` of this source, and that the role has LOGIN",
    ),
    _text(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        LoginFailed,
        "the server's pg_hba.conf has no entry for user {user}, this database and this host",
        "add a line such as `hostssl {database} {user} <our address> scram-sha-256` and reload,"
        " or see whether the server wants TLS (`tls: {{mode: require}}`)",
    ),
    _text(
        r"database \".*\" does not exist",
        LoginFailed,
        "database {database} does not exist",
        "check `databases` of this source",
    ),
    _text(
        r"not currently accepting connections",
        LoginFailed,
        "database {database} accepts no connections",
        "ALTER DATABASE {database} ALLOW_CONNECTIONS true, or leave it out of `databases`",
    ),
    _text(
        r"permission denied for database",
        PermissionMissing,
        "user {user} may not connect to database {database}",
        "GRANT CONNECT ON DATABASE {database} TO {user};",
    ),
    _text(
        r"too many (clients|connections)|remaining connection slots|no more connections allowed",
        SourceBusy,
        "the server has no connection left for user {user}",
        _TRY_LATER,
    ),
    _text(
        r"server does not support SSL",
        LoginFailed,
        "the server offers no TLS, and this connection requires it",
        "switch `ssl = on` at the server; only inside a trusted network: `tls: {{mode: disable}}`",
    ),
    _text(
        r"certificate|SSL error|sslmode|private key|tlsv1|SSL SYSCALL",
        LoginFailed,
        "the TLS connection is refused",
        "check `tls` of this source: root_cert must have signed the server's certificate, whose name"
        " must be `host` with mode verify-full",
    ),
    _text(
        r"could not translate host name|name or service not known|failed to resolve host"
        r"|nodename nor servname|temporary failure in name resolution|getaddrinfo",
        SourceUnreachable,
        "the host {host} is not known",
        "check `host` of this source, and the name service of the machine this runs on",
    ),
    _text(
        r"connection refused",
        SourceUnreachable,
        "nothing listens on {host} port {port}",
        "check `host` and `port`, that the server runs, and its `listen_addresses`",
    ),
    _text(
        r"timeout expired|timed out",
        SourceUnreachable,
        "{host} port {port} does not answer",
        "a firewall or security group between here and there? `limits.connect_timeout` is the wait",
    ),
    _text(
        r"starting up|shutting down|in recovery mode|not yet accepting connections"
        r"|hot standby mode is disabled",
        SourceUnreachable,
        "the server on {host} port {port} is not ready",
        "it is tried again",
    ),
    _text(
        r"no such file or directory",
        SourceUnreachable,
        "no server listens on the socket {host} port {port}",
        "check `host` and `port`, and that the server runs",
    ),
)


def connection_fault(
    error: psycopg.Error, *, host: str, port: int, user: str, database: str
) -> PgIngestError:
    """The error that a failed attempt to connect stands for."""
    said = _one_line(str(error))
    names = {"host": host, "port": port, "user": user, "database": database}
    for text in _CONNECTION_TEXTS:
        if text.pattern.search(said):
            return text.error(
                text.message.format(**names), detail=said, hint=text.hint.format(**names)
            )
    if error.pgconn is not None and (error.pgconn.used_password or error.pgconn.needs_password):
        return LoginFailed(
            f"login refused for user {user}",
            detail=said,
            hint="check `user` and `password` of this source",
        )
    return SourceUnreachable(f"no connection to {host} port {port}", detail=said)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)
