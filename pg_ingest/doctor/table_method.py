"""What the method of a table asks of it: keys, row versions, an order; and what the log leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_ingest.config.method import Method
from pg_ingest.doctor.finding import Finding, Test, attempted, failed, passed, warning
from pg_ingest.doctor.subject import Subject
from pg_ingest.errors import PgIngestError
from pg_ingest.methods.changed_rows import refuse_without_xmin
from pg_ingest.methods.columns import key_columns
from pg_ingest.methods.diff_plan import order_of_key
from pg_ingest.methods.replication_key import followed_key
from pg_ingest.methods.unchanged_pages import why_not
from pg_ingest.postgres.table_facts import TableFacts
from pg_ingest.table import Column, ReplicaIdentity, Table

Columns = tuple[Column, ...]


def check_method(
    subject: Subject, table: Table, facts: TableFacts, columns: Columns
) -> Iterator[Finding]:
    """Findings about one table that can be read, for the method it has."""
    method = subject.replication.method
    if method is Method.LOG_BASED:
        yield from _log_remarks(subject, table, facts, columns)
        return
    looks = {
        Test.KEY: lambda: _key(subject, table, columns),
        Test.REPLICATION_KEY: lambda: _replication_key(subject, table, columns),
        Test.ROW_VERSIONS: lambda: _row_versions(subject, table),
        Test.KEY_ORDER: lambda: _key_order(subject, table, columns),
    }
    for test in _TESTS[method]:
        yield attempted(subject.name, test, looks[test])
    if subject.replication.visibility_map is not None:
        yield _visibility_map(subject, table)


_TESTS: dict[Method, Sequence[Test]] = {
    Method.FULL_TABLE: (),
    Method.KEY_BASED: (Test.KEY, Test.REPLICATION_KEY),
    Method.XMIN: (Test.KEY, Test.ROW_VERSIONS),
    Method.DELTA_SNAPSHOT: (Test.KEY, Test.ROW_VERSIONS),
    Method.SNAPSHOT_DIFF: (Test.KEY, Test.KEY_ORDER),
}


def _key(subject: Subject, table: Table, columns: Columns) -> str:
    return ", ".join(key_columns(subject.replication, table, columns))


def _replication_key(subject: Subject, table: Table, columns: Columns) -> str:
    column = followed_key(subject.session, subject.replication, table, columns)
    return f"{column.name} ({column.type.display})"


def _row_versions(subject: Subject, table: Table) -> str:
    refuse_without_xmin(subject.session, subject.replication, table)
    return "its rows say which transaction wrote them"


def _visibility_map(subject: Subject, table: Table) -> Finding:
    try:
        reason = why_not(subject.session, subject.replication, table)
    except PgIngestError as error:
        return failed(subject.name, Test.VISIBILITY_MAP, error)
    if not reason:
        fact = "pages that have not changed since the last sync are skipped"
        return passed(subject.name, Test.VISIBILITY_MAP, fact)
    return warning(
        subject.name,
        Test.VISIBILITY_MAP,
        f"each sync reads all pages: {reason}",
        f"run what `pg-ingest setup-sql {subject.replication.source}` prints, or remove visibility_map",
    )


def _key_order(subject: Subject, table: Table, columns: Columns) -> str:
    key = key_columns(subject.replication, table, columns)
    order = order_of_key(subject.session, table, key)
    return f"cut into ranges of {', '.join(ordered.column.name for ordered in order)}"


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
            f"values of {', '.join(large[:5])}{' …' if len(large) > 5 else ''} that are stored out of line are"
            " not in the log where an update leaves them alone; the stored ones are kept",
        )
    if not table.primary_key and not table.identity_columns and not subject.replication.key:
        yield passed(
            subject.name,
            Test.KEY,
            "none: rows are kept as a multiset, and every change carries the whole old row",
        )
