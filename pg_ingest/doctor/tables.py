"""One table of one database: there, readable, its filter valid, its keys fit for the method."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from pg_ingest.config.model import Method
from pg_ingest.config.needs import hidden_columns
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import (
    Finding,
    Test,
    Verdict,
    attempted,
    failed,
    passed,
    refused,
    skipped,
    warning,
)
from pg_ingest.errors import PermissionMissing, PgIngestError
from pg_ingest.methods.columns import chosen_columns, key_columns
from pg_ingest.methods.registry import reader_for
from pg_ingest.methods.replication_key import followed_key
from pg_ingest.postgres.catalog import describe, unreadable_columns
from pg_ingest.postgres.privileges import grant_bypass, grant_columns, grant_table
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.table_facts import TableFacts
from pg_ingest.setup.steps import bypass_remark
from pg_ingest.table import Column, RelationKind, ReplicaIdentity, Table


@dataclass(frozen=True, slots=True)
class Subject:
    """One table of the session's database, with what was asked about all of them before.

    Attributes:
        table: None when it does not exist there.
        facts: None with it.
    """

    session: Session
    replication: Replication
    provider: Provider
    table: Table | None
    facts: TableFacts | None

    @property
    def name(self) -> str:
        """`shop/app/public.orders`."""
        database = self.session.database
        return f"{self.replication.source}/{database}/{self.replication.table}"


def check_table(
    subject: Subject, readable: list[tuple[Table, tuple[Column, ...]]]
) -> Iterator[Finding]:
    """Findings about one table; one that can be read is added to `readable`, with its columns."""
    finding = attempted(subject.name, Test.TABLE, lambda: _table(subject))
    yield finding
    table, facts = subject.table, subject.facts
    if table is None or facts is None:
        return
    columns = yield from _grants(subject, table, facts)
    if not columns:
        return
    if facts.rows_hidden:
        yield _row_security(subject)
        yield skipped(subject.name, Test.QUERY, "because row-level security refuses it")
    elif not facts.usage:
        yield skipped(subject.name, Test.QUERY, f"because schema {table.id.schema} is closed to us")
    else:
        query = _query(subject, table, columns)
        yield query
        if query.verdict is Verdict.PASSED:
            readable.append((table, columns))
    yield from _keys(subject, table, columns)
    if subject.replication.method is Method.LOG_BASED:
        yield from _log_remarks(subject, table, facts, columns)


def _table(subject: Subject) -> str:
    """Its size; raises what is wrong with it."""
    replication = subject.replication
    if replication.method is not Method.LOG_BASED:
        reader_for(replication.method)
    table = subject.table or describe(subject.session, replication.table)
    size = "" if table.estimated_rows < 0 else f", about {table.estimated_rows:,} rows"
    return f"{table.kind.value}, {replication.method.value}{size}"


def _grants(
    subject: Subject, table: Table, facts: TableFacts
) -> Generator[Finding, None, tuple[Column, ...]]:
    """Whether table and columns may be read; returns the columns that will be, none if they cannot."""
    session, replication = subject.session, subject.replication
    partitioned = table.kind is RelationKind.PARTITIONED
    hidden = hidden_columns(replication.method, partitioned=partitioned)
    closed = [name for name in hidden if name in facts.hidden_closed]
    try:
        columns = chosen_columns(session, replication, table)
    except PermissionMissing as error:
        yield _closed(subject, table, error, closed)
        return ()
    except PgIngestError as error:
        yield failed(subject.name, Test.COLUMNS, error)
        return ()
    if closed:
        fact = f"hidden columns may not be read by role {session.role}"
        hint = grant_columns(table.id, closed, session.role)
        why = "the method needs them, and a grant of single columns does not bring them along"
        yield refused(subject.name, Test.COLUMNS, f"{fact}: {', '.join(closed)}", hint, why)
        return ()
    fact = f"{len(columns)} of {len(table.columns)} columns are read, and may be"
    yield passed(subject.name, Test.COLUMNS, fact)
    return columns


def _closed(
    subject: Subject, table: Table, error: PermissionMissing, hidden: Sequence[str]
) -> Finding:
    """The grant that is missing: of the whole table if it is read whole and nothing of it may be."""
    session, replication = subject.session, subject.replication
    closed = set(unreadable_columns(session, table))
    whole = replication.columns is None and not replication.exclude_columns
    if whole and len(closed) == len(table.columns):
        hint = grant_table(table.id, session.role)
        return refused(subject.name, Test.SELECT, f"user {session.role} may not read it", hint)
    wanted = [
        column.name
        for column in table.columns
        if column.name in closed
        and (replication.columns is None or column.name in replication.columns)
        and column.name not in replication.exclude_columns
    ]
    hint = f"{grant_columns(table.id, [*wanted, *hidden], session.role)} or leave them out with"
    return refused(
        subject.name, Test.COLUMNS, error.message, f"{hint} `exclude_columns`", error.detail
    )


def _row_security(subject: Subject) -> Finding:
    role = subject.session.role
    return refused(
        subject.name,
        Test.ROW_SECURITY,
        f"row-level security would hide rows from user {role}",
        f"{grant_bypass(role)}{bypass_remark(subject.provider)}",
        "a part of a table is never replicated as if it were the whole",
    )


def _query(subject: Subject, table: Table, columns: tuple[Column, ...]) -> Finding:
    where = subject.replication.where

    def valid() -> str:
        estimate = subject.session.explain(select_rows(table, columns, where=where))
        return f"valid, about {estimate.rows:,} rows are read"

    return attempted(subject.name, Test.FILTER if where else Test.QUERY, valid)


def _keys(subject: Subject, table: Table, columns: tuple[Column, ...]) -> Iterator[Finding]:
    session, replication = subject.session, subject.replication
    if replication.method is not Method.KEY_BASED:
        return

    def replication_key() -> str:
        column = followed_key(session, replication, table, columns)
        return f"{column.name} ({column.type.display})"

    yield attempted(
        subject.name, Test.KEY, lambda: ", ".join(key_columns(replication, table, columns))
    )
    yield attempted(subject.name, Test.REPLICATION_KEY, replication_key)


def _log_remarks(
    subject: Subject, table: Table, facts: TableFacts, columns: tuple[Column, ...]
) -> Iterator[Finding]:
    """What is worth knowing about a table that is followed by the log."""
    generated = [column.name for column in columns if column.generated]
    if generated:
        yield warning(
            subject.name,
            Test.GENERATED_COLUMNS,
            f"{', '.join(generated)}: the log has no values of generated columns, so they are left out",
            f"say so with exclude_columns: [{', '.join(generated)}], or choose a method that reads the"
            " table",
        )
    names = {column.name for column in columns}
    large = [name for name in facts.toasted if name in names]
    if large and table.identity is not ReplicaIdentity.FULL:
        yield passed(
            subject.name,
            Test.TOAST,
            f"large unchanged values of {', '.join(large[:5])}{' …' if len(large) > 5 else ''} are not in"
            " the log; the stored ones are kept",
        )
    if not table.primary_key and not table.identity_columns and not subject.replication.key:
        yield passed(
            subject.name,
            Test.KEY,
            "none: rows are kept as a multiset, and every change carries the whole old row",
        )
