"""The server's failures become this package's errors: those of statements here, those of connecting in
`connection_faults`, and nowhere else.

A failed *statement* carries an SQLSTATE, which is the same in every language and version, so it decides. The
server's words decide nothing; they only choose between hints.

What may be repeated to the user: the primary message of classes that speak about names, rights and
resources. Messages about data (classes 22, 23, P0 and whatever is not listed) may quote a row's value, so
only their SQLSTATE is passed on, and DETAIL and CONTEXT never are. Errors are raised `from None`, because
the driver's exception prints all of them.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

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
    SlotBusy,
    SourceBusy,
    SourceTableChanged,
    SourceUnreachable,
    StatementCancelled,
)
from pg_ingest.table import TableId


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement was about, for the message and the GRANT in its hint.

    Attributes:
        what: "reading public.orders", the start of the message.
        table: the relation concerned, if there is one.
        role: who we are connected as.
        user_text: the statement holds a text of the user's (a row filter) and is not run: names that do
            not exist are that text's fault, and no message can quote a row.
    """

    what: str
    table: TableId | None = None
    role: str = ""
    user_text: bool = False


@contextmanager
def translated(
    what: str, *, table: TableId | None = None, role: str = "", user_text: bool = False
) -> Iterator[None]:
    """Turn a server's or connection's failure inside the block into one of `pg_ingest.errors`.

    Wrong use of the driver is a bug, and comes out as it is. See Subject for the arguments.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
            raise
        raise statement_fault(error, Subject(what, table, role, user_text)) from None


def statement_fault(error: psycopg.Error, subject: Subject) -> PgIngestError:
    """The error that a failed statement, or a connection that broke under it, stands for."""
    if error.sqlstate is None:
        return SourceUnreachable(
            f"{subject.what}: the connection broke",
            detail=one_line(str(error)),
            hint="it is tried again; the server's log says whether it restarted",
        )
    primary, origin = error.diag.message_primary or "", error.diag.source_function or ""
    return fault_of(error.sqlstate, primary, subject, origin=origin)


def fault_of(state: str, primary: str, subject: Subject, *, origin: str = "") -> PgIngestError:
    """The error for an SQLSTATE; `origin` is the function in the server's source that raised it."""
    detail = f"sqlstate {state}: {one_line(primary)}"
    if subject.user_text and _blames_text(state, primary, subject):
        return QueryRefused(f"{subject.what} is not valid", detail=detail, hint=_QUALIFY)
    if state[:2] not in _QUOTES_NO_ROW:
        return QueryRefused(
            f"{subject.what}: the server failed while computing a row",
            detail=f"sqlstate {state}; its words may quote a row, so they are only in the server's log",
            hint="a view, generated column or row filter computes something that fails for some row",
        )
    if state == "42501":
        return _permission(primary, detail, subject, origin)
    meaning = _MEANINGS.get(state) or _MEANINGS.get(state[:2]) or _REFUSED
    return meaning.error(f"{subject.what}: {meaning.message}", detail=detail, hint=meaning.hint)


def _blames_text(state: str, primary: str, subject: Subject) -> bool:
    if state == "42P01":
        return f'"{subject.table}"' not in primary
    if state == "08P01":
        return True  # a `$1` in the text, for which we send no value
    return state != "42501" and state[:2] not in _NEVER_THE_TEXT


def _permission(primary: str, detail: str, subject: Subject, origin: str) -> PermissionMissing:
    role = quoted(subject.role)
    if origin == "check_enable_rls":
        return PermissionMissing(
            f"{subject.what}: row-level security would hide rows from role {subject.role}",
            detail=detail,
            hint=f"ALTER ROLE {role} BYPASSRLS; a part of a table is never replicated as if it"
            " were the whole",
        )
    table = subject.table
    if table is not None and (table.name in primary or table.schema in primary):
        hint = grant_select(table, subject.role)
    else:
        hint = f"grant it to {role}; a view reads its tables with the rights of its owner"
    return PermissionMissing(f"{subject.what}: permission denied", detail=detail, hint=hint)


def grant_select(table: TableId, role: str) -> str:
    """The statements that let `role` read `table`."""
    schema, name, to = quoted(table.schema), quoted(table.name), quoted(role)
    return f"GRANT USAGE ON SCHEMA {schema} TO {to}; GRANT SELECT ON {schema}.{name} TO {to};"


def quoted(name: str) -> str:
    """A name as it stands in SQL."""
    return sql.Identifier(name).as_string(None)


def literal(text: str) -> str:
    """A text as it stands in SQL."""
    return sql.Literal(text).as_string(None)


def one_line(text: str) -> str:
    """The text with each run of white space as one space."""
    return " ".join(text.split())


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What an SQLSTATE, or its class (the first two characters), stands for."""

    error: type[PgIngestError]
    message: str
    hint: str


TRY_LATER = "it is tried again; lower `limits.connections` or raise the server's limit if it recurs"
_DISCOVER = "dropped or renamed? run `pg-ingest discover` and look at `tables` in the configuration"
_QUALIFY = "names outside pg_catalog are written with their schema: public.f(x)"
_REFUSED = _Meaning(QueryRefused, "the server refuses the statement", _QUALIFY)

_MEANINGS: dict[str, _Meaning] = {
    "08": _Meaning(SourceUnreachable, "the connection broke", "it is tried again"),
    "25P03": _Meaning(
        SourceUnreachable,
        "the server closed the idle transaction",
        "the destination took longer than the idle timeout; it is tried again",
    ),
    "25P04": _Meaning(
        StatementCancelled,
        "the server's transaction_timeout struck",
        "ALTER ROLE … SET transaction_timeout = 0 for this role",
    ),
    "28": _Meaning(LoginFailed, "login refused", "check `user`, `password` and pg_hba.conf"),
    "3D000": _Meaning(LoginFailed, "the database does not exist", "check `databases`"),
    "3F000": _Meaning(SourceTableChanged, "the schema does not exist", _DISCOVER),
    "40": _Meaning(
        StatementCancelled,
        "cancelled by a conflict with recovery on the standby",
        "raise `max_standby_streaming_delay` or set `hot_standby_feedback = on` on the standby, or"
        " read from the primary",
    ),
    "42P01": _Meaning(SourceTableChanged, "the table does not exist any more", _DISCOVER),
    "42703": _Meaning(SourceTableChanged, "a column does not exist any more", _DISCOVER),
    "53300": _Meaning(SourceBusy, "the server has no connection left", TRY_LATER),
    "53": _Meaning(SourceBusy, "the server is short of a resource", TRY_LATER),
    "54": _Meaning(QueryRefused, "a limit of the server is exceeded", "select fewer columns"),
    "55000": _Meaning(
        QueryRefused,
        "it is not in a state to be read",
        "a materialized view without data needs REFRESH MATERIALIZED VIEW first",
    ),
    "55006": _Meaning(
        SlotBusy,
        "somebody else is using it",
        "one reader a slot: pg_replication_slots.active_pid says who; it is tried again",
    ),
    "55P03": _Meaning(
        SourceBusy,
        "somebody holds a lock on it",
        "it is tried again; raise `limits.lock_timeout` to wait longer",
    ),
    "55": _Meaning(SourceBusy, "it is in use", "it is tried again"),
    "57014": _Meaning(
        StatementCancelled,
        "the statement was cancelled",
        "by a timeout (`limits.statement_timeout`, `limits.query_timeout`) or by an administrator;"
        " it is tried again",
    ),
    "57": _Meaning(SourceUnreachable, "the server ended the connection", "it is tried again"),
    "58": _Meaning(
        SourceBusy, "the server has trouble with its machine", "the server's log says more"
    ),
}

_QUOTES_NO_ROW = frozenset(
    ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58")
)
"""Classes whose primary messages speak of names, rights and resources, never of values."""

_NEVER_THE_TEXT = frozenset(("08", "25", "28", "3D", "40", "53", "55", "57", "58"))
"""Classes that no wording of a row filter brings about."""
