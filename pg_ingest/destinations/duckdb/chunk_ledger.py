"""What `_pgi` knows of loads that come in chunks: which there are, what is stored, what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa

from pg_ingest import bookmark as bookmarks
from pg_ingest.batch import REJECTED_SCHEMA
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.chunks import BegunLoad, ChunkedLoad
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.destinations.duckdb import ledger
from pg_ingest.destinations.duckdb.rejected import Entries
from pg_ingest.destinations.duckdb.statement import Sql, identifier, literal, sql
from pg_ingest.errors import DestinationBusy, TooManyRejected

PREFIX = "_pgi_load_"

ABANDONED = timedelta(days=30)
"""Whoever wanted a load that has stood still for so long does not any more: its table was taken out of the
configuration, or its source is gone."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS _pgi.chunked_loads (
    id VARCHAR, source VARCHAR, "database" VARCHAR, "schema" VARCHAR, "table" VARCHAR,
    target_schema VARCHAR, target_table VARCHAR, shared BOOLEAN, comment VARCHAR, method VARCHAR,
    plan VARCHAR, chunks INTEGER, caught_up VARCHAR, begun_at TIMESTAMPTZ, run_id VARCHAR);
CREATE TABLE IF NOT EXISTS _pgi.chunks (
    load_id VARCHAR, chunk INTEGER, "rows" BIGINT, bytes BIGINT, stored_at TIMESTAMPTZ,
    notes VARCHAR[]);
CREATE TABLE IF NOT EXISTS _pgi.chunk_rejected (
    load_id VARCHAR, "column" VARCHAR, reason VARCHAR, "row" VARCHAR);
"""

_LOADS = """
SELECT l.id, l.source, l."database", l."schema", l."table", l.target_schema, l.target_table, l.shared,
    l.comment, l.method, l.plan, l.chunks, list(c.chunk) FILTER (c.chunk IS NOT NULL),
    coalesce(sum(c."rows"), 0)::BIGINT, coalesce(sum(c.bytes), 0)::BIGINT, l.caught_up,
    strftime(l.begun_at, '%Y-%m-%dT%H:%M:%S.%fZ'), l.run_id
FROM _pgi.chunked_loads AS l LEFT JOIN _pgi.chunks AS c ON c.load_id = l.id
GROUP BY ALL ORDER BY l.source, l."database", l."schema", l."table"
"""


def exists(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether this file has ever had a load in chunks."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database()"
        " AND schema_name = '_pgi' AND table_name IN ('chunked_loads', 'chunks', 'chunk_rejected')"
    ).fetchone()
    return found is not None and found[0] == 3


def loads(connection: duckdb.DuckDBPyConnection) -> list[ChunkedLoad]:
    """All unfinished loads."""
    if not exists(connection):
        return []
    return [_load(*row) for row in connection.execute(_LOADS).fetchall()]


def _load(*row: object) -> ChunkedLoad:
    (id_, source, database, schema, table, to_schema, to_table, shared, comment, *rest) = row
    method, plan, count, done, rows, size, caught_up, begun_at, run_id = rest
    return ChunkedLoad(
        id=str(id_),
        stream=StreamId(str(source), str(database), str(schema), str(table)),
        target=Target(
            str(to_schema), str(to_table), bool(shared), None if comment is None else str(comment)
        ),
        method=str(method),
        plan=str(plan),
        chunks=int(str(count)),
        done=frozenset(done if isinstance(done, list) else ()),
        rows=int(str(rows)),
        bytes=int(str(size)),
        caught_up=None if caught_up is None else bookmarks.load(str(caught_up)),
        begun_at=str(begun_at),
        run_id=str(run_id),
    )


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables when they are missing."""
    ledger.prepare(connection)
    connection.execute(_SCHEMA)


def check(connection: duckdb.DuckDBPyConnection, load: ChunkedLoad) -> None:
    """Raise DestinationBusy when the load is over."""
    here = (
        exists(connection)
        and connection.execute(
            "SELECT id FROM _pgi.chunked_loads WHERE id = ?", [load.id]
        ).fetchall()
    )
    if not here:
        raise DestinationBusy(
            f"the load of {load.stream} was ended by another process",
            detail="it has been finished, or begun anew",
            hint="it is tried again from what is stored now",
        )


def check_caught_up(connection: duckdb.DuckDBPyConnection, load: ChunkedLoad) -> None:
    """Raise DestinationBusy when what is stored is as of another bookmark than the load says, or it is over."""
    check(connection, load)
    (now,) = connection.execute(
        "SELECT caught_up FROM _pgi.chunked_loads WHERE id = ?", [load.id]
    ).fetchall()[0]
    if now != (None if load.caught_up is None else bookmarks.dump(load.caught_up)):
        raise DestinationBusy(
            f"the chunks of {load.stream} were brought up to date by another process",
            detail="what was read would have been compared with what they were before",
            hint="it is tried again from what is stored now",
        )


def is_stored(connection: duckdb.DuckDBPyConnection, load: ChunkedLoad, number: int) -> bool:
    """Whether a chunk is stored."""
    found = connection.execute(
        "SELECT chunk FROM _pgi.chunks WHERE load_id = ? AND chunk = ?", [load.id, number]
    ).fetchall()
    return bool(found)


def write_load(
    connection: duckdb.DuckDBPyConnection,
    load_id: str,
    stream: StreamId,
    target: Target,
    begun: BegunLoad,
) -> None:
    """A load begins."""
    connection.execute(
        "INSERT INTO _pgi.chunked_loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)",
        [
            *(load_id, stream.source, stream.database, stream.schema, stream.table),
            *(target.schema, target.table, target.shared, target.comment, begun.method),
            *(begun.plan, begun.chunks, datetime.now(UTC), begun.run_id),
        ],
    )


def write_chunk(
    connection: duckdb.DuckDBPyConnection,
    load: ChunkedLoad,
    number: int,
    rows: int,
    size: int,
    notes: Sequence[str],
) -> None:
    """A chunk is stored."""
    connection.execute(
        "INSERT INTO _pgi.chunks VALUES (?, ?, ?, ?, ?, ?)",
        [load.id, number, rows, size, datetime.now(UTC), list(notes)],
    )


def read_notes(connection: duckdb.DuckDBPyConnection, load: ChunkedLoad) -> list[str]:
    """What was noted beside the chunks that are stored."""
    found = connection.execute(
        "SELECT unnest(notes) FROM _pgi.chunks WHERE load_id = ?", [load.id]
    ).fetchall()
    return [str(note) for (note,) in found]


def write_caught_up(
    connection: duckdb.DuckDBPyConnection, load: ChunkedLoad, bookmark: Bookmark
) -> None:
    """What is stored is as of this bookmark."""
    connection.execute(
        "UPDATE _pgi.chunked_loads SET caught_up = ? WHERE id = ?",
        [bookmarks.dump(bookmark), load.id],
    )


def reject(
    connection: duckdb.DuckDBPyConnection,
    load: ChunkedLoad,
    rejected: pa.Table,
    max_rejected: int,
) -> None:
    """Remember rows that cannot be stored; raise TooManyRejected when they are too many in all chunks.

    A row that is read again when the chunks are brought up to date is the same row.
    """
    if not rejected.num_rows:
        return
    connection.register("_pgi_rejects", rejected)
    connection.execute(
        'INSERT INTO _pgi.chunk_rejected SELECT ?, "column", reason, "row" FROM _pgi_rejects',
        [load.id],
    )
    connection.unregister("_pgi_rejects")
    count = rejected_rows(connection, load).num_rows
    if count > max_rejected:
        raise TooManyRejected(
            f"{load.target}: {count} rows cannot be stored,"
            f" more than limits.max_rejected ({max_rejected})",
            detail="in all chunks of the load together",
            hint="exclude the column, or raise limits.max_rejected: the rows then go to _pgi.rejected",
        )


def rejects_of(load: ChunkedLoad) -> Entries:
    """The rejected rows of the load."""
    return Entries(Sql("_pgi.chunk_rejected"), sql("r.load_id = {number}", number=literal(load.id)))


def rejected_rows(connection: duckdb.DuckDBPyConnection, load: ChunkedLoad) -> pa.Table:
    """All of them, schema REJECTED_SCHEMA."""
    found = connection.execute(
        'SELECT DISTINCT "column", reason, "row" FROM _pgi.chunk_rejected WHERE load_id = ?',
        [load.id],
    ).fetchall()
    names = REJECTED_SCHEMA.names
    rows = [dict(zip(names, row, strict=True)) for row in found]
    return pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA)


def forget(connection: duckdb.DuckDBPyConnection, load_id: str) -> None:
    """The load is over."""
    connection.execute("DELETE FROM _pgi.chunked_loads WHERE id = ?", [load_id])
    connection.execute("DELETE FROM _pgi.chunks WHERE load_id = ?", [load_id])
    connection.execute("DELETE FROM _pgi.chunk_rejected WHERE load_id = ?", [load_id])


def table_of(load: ChunkedLoad) -> Sql:
    """Where its rows are until it is over."""
    return identifier(load.target.schema, PREFIX + load.id)


def drop(connection: duckdb.DuckDBPyConnection, stream: StreamId) -> bool:
    """Throw the stream's unfinished load away, if there is one; whether there was."""
    if not exists(connection):
        return False
    found = connection.execute(
        "SELECT id, target_schema FROM _pgi.chunked_loads"
        ' WHERE source = ? AND "database" = ? AND "schema" = ? AND "table" = ?',
        [stream.source, stream.database, stream.schema, stream.table],
    ).fetchall()
    for load_id, schema in found:
        _drop(connection, load_id, schema)
    return bool(found)


def drop_abandoned(connection: duckdb.DuckDBPyConnection, at: datetime) -> int:
    """Throw those loads away, of any stream, to which nothing came for ABANDONED; how many they were."""
    if not exists(connection):
        return 0
    found = connection.execute(
        "SELECT id, target_schema FROM _pgi.chunked_loads AS l WHERE greatest(l.begun_at,"
        " (SELECT max(stored_at) FROM _pgi.chunks AS c WHERE c.load_id = l.id)) < ?",
        [at - ABANDONED],
    ).fetchall()
    for load_id, schema in found:
        _drop(connection, load_id, schema)
    return len(found)


def _drop(connection: duckdb.DuckDBPyConnection, load_id: str, schema: str) -> None:
    name = identifier(schema, PREFIX + load_id)
    connection.execute(sql("DROP TABLE IF EXISTS {table}", table=name))
    forget(connection, load_id)
