"""One table of one database: there, readable, its filter valid, its keys fit for the method."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pg_ingest.config.model import Method
from pg_ingest.config.selection import Replication
from pg_ingest.doctor.finding import Finding, failed, passed
from pg_ingest.errors import PgIngestError
from pg_ingest.methods.columns import chosen_columns, key_columns
from pg_ingest.methods.registry import reader_for
from pg_ingest.methods.replication_key import followed_key
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table


def check_table(session: Session, replication: Replication) -> Iterator[Finding]:
    """Findings about one table; the tests after the first two do not depend on each other."""
    subject = f"{replication.source}/{session.database}/{replication.table}"
    try:
        if replication.method is not Method.LOG_BASED:
            reader_for(replication.method)
        table = describe(session, replication.table)
    except PgIngestError as error:
        yield failed(subject, "table", error)
        return
    size = "" if table.estimated_rows < 0 else f", about {table.estimated_rows:,} rows"
    yield passed(subject, "table", f"{table.kind.value}, {replication.method.value}{size}")
    try:
        columns = chosen_columns(session, replication, table)
    except PgIngestError as error:
        yield failed(subject, "columns", error)
        return
    yield passed(subject, "columns", f"{len(columns)} of {len(table.columns)} can be read")
    yield from _reading(session, replication, table, columns, subject)
    yield from _keys(session, replication, table, columns, subject)


def _reading(
    session: Session,
    replication: Replication,
    table: Table,
    columns: tuple[Column, ...],
    subject: str,
) -> Iterator[Finding]:
    query = select_rows(table, columns, where=replication.where)
    test = "filter" if replication.where else "query"
    try:
        estimate = session.explain(query)
    except PgIngestError as error:
        yield failed(subject, test, error)
        return
    yield passed(subject, test, f"valid, about {estimate.rows:,} rows are read")


def _keys(
    session: Session,
    replication: Replication,
    table: Table,
    columns: tuple[Column, ...],
    subject: str,
) -> Iterator[Finding]:
    if replication.method is not Method.KEY_BASED:
        return

    def key() -> str:
        return ", ".join(key_columns(replication, table, columns))

    def replication_key() -> str:
        column = followed_key(session, replication, table, columns)
        return f"{column.name} ({column.type.display})"

    tests: tuple[tuple[str, Callable[[], str]], ...] = (
        ("key", key),
        ("replication key", replication_key),
    )
    for test, look in tests:
        try:
            yield passed(subject, test, look())
        except PgIngestError as error:
            yield failed(subject, test, error)
