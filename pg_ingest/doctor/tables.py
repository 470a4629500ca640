"""One table of one database: there, readable, its filter valid, its keys fit for the method."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from pg_ingest.config.model import Method
from pg_ingest.config.needs import hidden_columns, names_in
from pg_ingest.doctor.finding import (
    Finding,
    Test,
    Verdict,
    attempted,
    failed,
    passed,
    refused,
    skipped,
)
from pg_ingest.doctor.subject import Subject
from pg_ingest.doctor.table_method import check_method
from pg_ingest.errors import PermissionMissing, PgIngestError
from pg_ingest.methods.columns import chosen_columns
from pg_ingest.methods.registry import reader_for
from pg_ingest.postgres.catalog import describe, unreadable_columns
from pg_ingest.postgres.privileges import grant_bypass, grant_columns, grant_table
from pg_ingest.postgres.row_filter import check_row_filter
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.table_facts import TableFacts
from pg_ingest.setup.steps import bypass_remark
from pg_ingest.table import Column, RelationKind, Table


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
    yield from check_method(subject, table, facts, columns)


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
    read = {
        column.name
        for column in table.columns
        if (replication.columns is None or column.name in replication.columns)
        and column.name not in replication.exclude_columns
    }
    read |= set(names_in(replication.where))
    wanted = [column.name for column in table.columns if column.name in closed & read]
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
    session, where = subject.session, subject.replication.where
    test = Test.FILTER if where else Test.QUERY
    try:
        estimate = session.explain(select_rows(table, columns, where=where))
        if where and subject.replication.method is Method.LOG_BASED:
            logged = [column for column in columns if not column.generated]
            check_row_filter(session, table, logged, where)
    except PermissionMissing as error:
        closed = set(unreadable_columns(session, table)) & set(names_in(where))
        if not closed:
            return failed(subject.name, test, error)
        names = [column.name for column in table.columns if column.name in closed]
        return refused(
            subject.name,
            test,
            f"user {session.role} may not read the columns that `where` is about: {', '.join(names)}",
            grant_columns(table.id, names, session.role),
        )
    except PgIngestError as error:
        return failed(subject.name, test, error)
    return passed(subject.name, test, f"valid, about {estimate.rows:,} rows are read")
