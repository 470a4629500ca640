"""The `_pgi` schema: bookmarks, loading reports, rejected rows, gaps.

Times are TIMESTAMPTZ. They are read back as ISO 8601 text, because DuckDB's Python client would need
one more package to hand over a TIMESTAMPTZ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from pg_ingest import bookmark as bookmarks
from pg_ingest.batch import LoadReport
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.destination import LoadReportDraft, StreamId, TableStatus, Target
from pg_ingest.destinations.duckdb.rejected import Entries
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql
from pg_ingest.errors import DestinationBusy

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS _pgi;
CREATE TABLE IF NOT EXISTS _pgi.bookmarks (
    source VARCHAR, "database" VARCHAR, "schema" VARCHAR, "table" VARCHAR, method VARCHAR,
    bookmark VARCHAR, target_schema VARCHAR, target_table VARCHAR, "rows" BIGINT,
    updated_at TIMESTAMPTZ, run_id VARCHAR);
CREATE TABLE IF NOT EXISTS _pgi.loads (
    id BIGINT, run_id VARCHAR, source VARCHAR, "database" VARCHAR, "schema" VARCHAR,
    "table" VARCHAR, target VARCHAR, method VARCHAR, phase VARCHAR, started_at TIMESTAMPTZ,
    duration_s DOUBLE, rows_read BIGINT, bytes_read BIGINT, inserted BIGINT, updated BIGINT,
    deleted BIGINT, rejected BIGINT, total BIGINT, position_from VARCHAR, position_to VARCHAR,
    notes VARCHAR[]);
CREATE TABLE IF NOT EXISTS _pgi.rejected (
    load_id BIGINT, source VARCHAR, "database" VARCHAR, "schema" VARCHAR, "table" VARCHAR,
    "column" VARCHAR, reason VARCHAR, "row" VARCHAR, rejected_at TIMESTAMPTZ);
CREATE TABLE IF NOT EXISTS _pgi.gaps (
    source VARCHAR, "database" VARCHAR, "schema" VARCHAR, "table" VARCHAR, position_from VARCHAR,
    position_to VARCHAR, reason VARCHAR, noticed_at TIMESTAMPTZ, repaired_at TIMESTAMPTZ);
"""

_STATUS = """
WITH newest AS (
    SELECT *, row_number() OVER (
        PARTITION BY source, "database", "schema", "table" ORDER BY id DESC) AS age
    FROM _pgi.loads)
SELECT b.source, b."database", b."schema", b."table", b.target_schema, b.target_table,
    t.table_name IS NOT NULL AND EXISTS (
        FROM duckdb_columns() c WHERE c.database_name = current_database()
        AND c.schema_name = t.schema_name AND c.table_name = t.table_name
        AND c.column_name = '_pgi_database') AS shared,
    t.comment, b.bookmark, b."rows", strftime(b.updated_at, $format) AS updated_at,
    CASE WHEN n.id IS NOT NULL THEN {
        'id': n.id, 'run_id': n.run_id, 'method': n.method, 'phase': n.phase,
        'started_at': strftime(n.started_at, $format), 'duration_s': n.duration_s,
        'rows_read': n.rows_read, 'bytes_read': n.bytes_read, 'inserted': n.inserted,
        'updated': n.updated, 'deleted': n.deleted, 'rejected': n.rejected, 'total': n.total,
        'position_from': n.position_from, 'position_to': n.position_to, 'notes': n.notes} END
FROM _pgi.bookmarks b
LEFT JOIN newest n ON n.age = 1 AND n.source = b.source AND n."database" = b."database"
    AND n."schema" = b."schema" AND n."table" = b."table"
LEFT JOIN duckdb_tables() t ON t.database_name = current_database()
    AND lower(t.schema_name) = lower(b.target_schema)
    AND lower(t.table_name) = lower(b.target_table)
WHERE b.bookmark IS NOT NULL
ORDER BY ALL
"""

_ISO = "%Y-%m-%dT%H:%M:%S.%fZ"

_IS_STREAM = Sql('source = ? AND "database" = ? AND "schema" = ? AND "table" = ?')


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the `_pgi` schema when it is missing."""
    connection.execute(_SCHEMA)


def exists(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether this file has a `_pgi` schema."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = '_pgi' AND table_name IN ('bookmarks', 'loads')"
    ).fetchone()
    return found is not None and found[0] == 2


def read_bookmark(connection: duckdb.DuckDBPyConnection, stream: StreamId) -> Bookmark | None:
    """The stream's bookmark; raise BookmarkUnusable when it cannot be read."""
    found = connection.execute(
        sql("SELECT bookmark FROM _pgi.bookmarks WHERE {stream}", stream=_IS_STREAM),
        _identity(stream),
    ).fetchone()
    return None if found is None or found[0] is None else bookmarks.load(found[0])


def check_bookmark(
    connection: duckdb.DuckDBPyConnection, stream: StreamId, expected: Bookmark
) -> None:
    """Raise DestinationBusy when the stream's bookmark is another one than its reader went on from."""
    if read_bookmark(connection, stream) != expected:
        raise DestinationBusy(
            f"{stream} was loaded by another process at the same time",
            detail="its bookmark has moved since this load began",
            hint="nothing was stored; it is tried again from there",
        )


def owners(connection: duckdb.DuckDBPyConnection, target: Target) -> list[StreamId]:
    """The streams whose rows are in that table, in order. Names compare as DuckDB does, without case."""
    found = connection.execute(
        'SELECT source, "database", "schema", "table" FROM _pgi.bookmarks'
        " WHERE lower(target_schema) = lower(?) AND lower(target_table) = lower(?) ORDER BY ALL",
        [target.schema, target.table],
    ).fetchall()
    return [StreamId(*row) for row in found]


def place(connection: duckdb.DuckDBPyConnection, stream: StreamId) -> Target | None:
    """Where the stream's rows went until now, None before its first load."""
    found = connection.execute(
        sql(
            "SELECT target_schema, target_table FROM _pgi.bookmarks WHERE {stream}",
            stream=_IS_STREAM,
        ),
        _identity(stream),
    ).fetchone()
    return None if found is None else Target(found[0], found[1])


def status(connection: duckdb.DuckDBPyConnection) -> list[TableStatus]:
    """Every stream with a bookmark and its newest load."""
    found = connection.execute(_STATUS, {"format": _ISO}).fetchall()
    return [
        TableStatus(
            stream=StreamId(*row[0:4]),
            target=Target(*row[4:8]),
            bookmark=bookmarks.load(row[8]),
            rows=row[9],
            updated_at=row[10],
            last_load=row[11] or {},
        )
        for row in found
    ]


@dataclass(frozen=True, slots=True)
class Entry:
    """What one load writes into the ledger."""

    stream: StreamId
    target: Target
    bookmark: Bookmark | None
    draft: LoadReportDraft
    at: datetime
    rejected: pa.Table
    everything: bool
    """The load replaced all rows of the stream, so rows rejected by earlier loads are history."""


def record(connection: duckdb.DuckDBPyConnection, entry: Entry, report: LoadReport) -> int:
    """Write bookmark, loading report and rejected rows; give the load's number."""
    found = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM _pgi.loads").fetchone()
    assert found is not None
    load_id = int(found[0])
    _write_bookmark(connection, entry, report)
    _write_load(connection, entry, report, load_id)
    _write_rejected(connection, entry, load_id)
    return load_id


def _write_bookmark(
    connection: duckdb.DuckDBPyConnection, entry: Entry, report: LoadReport
) -> None:
    stored = connection.execute(
        sql("SELECT bookmark FROM _pgi.bookmarks WHERE {stream}", stream=_IS_STREAM),
        _identity(entry.stream),
    ).fetchone()
    text = None if stored is None else stored[0]
    if entry.bookmark is not None:
        text = bookmarks.dump(entry.bookmark)
    connection.execute(
        sql("DELETE FROM _pgi.bookmarks WHERE {stream}", stream=_IS_STREAM), _identity(entry.stream)
    )
    connection.execute(
        "INSERT INTO _pgi.bookmarks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *_identity(entry.stream),
            entry.draft.method,
            text,
            entry.target.schema,
            entry.target.table,
            report.counts.total,
            entry.at,
            entry.draft.run_id,
        ],
    )


def _write_load(
    connection: duckdb.DuckDBPyConnection, entry: Entry, report: LoadReport, load_id: int
) -> None:
    counts = report.counts
    connection.execute(
        "INSERT INTO _pgi.loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            load_id,
            entry.draft.run_id,
            *_identity(entry.stream),
            str(entry.target),
            entry.draft.method,
            report.phase,
            datetime.fromtimestamp(entry.draft.started_at, UTC),
            report.duration_s,
            report.rows_read,
            report.bytes_read,
            counts.inserted,
            counts.updated,
            counts.deleted,
            counts.rejected,
            counts.total,
            report.position_from,
            report.position_to,
            list(report.notes),
        ],
    )


def _write_rejected(connection: duckdb.DuckDBPyConnection, entry: Entry, load_id: int) -> None:
    """A rejected row stands there once, with its newest load."""
    if entry.everything:
        connection.execute(
            sql("DELETE FROM _pgi.rejected WHERE {stream}", stream=_IS_STREAM),
            _identity(entry.stream),
        )
    if not entry.rejected.num_rows:
        return
    connection.register("_pgi_rejects", entry.rejected)
    connection.execute(
        sql(
            'DELETE FROM _pgi.rejected WHERE {stream} AND ("column", reason, "row") IN'
            ' (SELECT "column", reason, "row" FROM _pgi_rejects)',
            stream=_IS_STREAM,
        ),
        _identity(entry.stream),
    )
    connection.execute(
        'INSERT INTO _pgi.rejected SELECT ?, ?, ?, ?, ?, "column", reason, "row", ? FROM _pgi_rejects',
        [load_id, *_identity(entry.stream), entry.at],
    )


def rejects_of(stream: StreamId) -> Entries:
    """The rejected rows of all its loads."""
    names = ("source", "database", "schema", "table")
    ours = [
        sql("r.{name} = {value}", name=identifier(name), value=literal(value))
        for name, value in zip(names, _identity(stream), strict=True)
    ]
    return Entries(Sql("_pgi.rejected"), joined(ours, " AND "))


def _identity(stream: StreamId) -> list[str]:
    return [stream.source, stream.database, stream.schema, stream.table]


def seconds_since(started_at: float) -> float:
    """Seconds since a `time.time()`, never negative when the clock was set back."""
    return max(0.0, time.time() - started_at)
