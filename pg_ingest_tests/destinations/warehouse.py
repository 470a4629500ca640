"""A DuckDB file under test: load Python rows into it, look at what it holds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pg_ingest.batch import REJECTED_SCHEMA, Batch, LoadReport, Scope
from pg_ingest.bookmark import Bookmark, FullTableBookmark
from pg_ingest.destinations.destination import LoadReportDraft, StreamId, Target
from pg_ingest.destinations.duckdb import DuckDbDestination

STREAM = StreamId("shop", "eu", "public", "orders")
TARGET = Target("shop", "orders")
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("price", pa.float64())])
BOOKMARK = FullTableBookmark("0/1", "2026-01-01T00:00:00Z")


def draft(**facts: Any) -> LoadReportDraft:
    """What a reader would say of a load that starts now."""
    given = {
        "started_at": time.time(),
        "phase": "snapshot",
        "position_from": "",
        "position_to": "",
        "run_id": "run",
        "method": "full_table",
    }
    return LoadReportDraft(**{**given, **facts})


def batch(rows: Sequence[Sequence[Any]], schema: pa.Schema = SCHEMA) -> Batch:
    """Rows as they come from a reader, ten bytes each."""
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(arrays, schema=schema), size=10 * len(rows))


def rejecting(count: int, schema: pa.Schema = SCHEMA) -> Batch:
    """A batch without good rows and with `count` rejected ones."""
    rejected = pa.RecordBatch.from_pylist(
        [
            {"column": "price", "reason": "too large", "row": f'{{"id": "{i}"}}'}
            for i in range(count)
        ],
        schema=REJECTED_SCHEMA,
    )
    return Batch(batch([], schema).rows, rejected, size=10 * count)


@dataclass
class Warehouse:
    """One destination and short ways to use it."""

    path: Path
    patience: float = 5.0
    destination: DuckDbDestination = field(init=False)

    def __post_init__(self) -> None:
        self.destination = DuckDbDestination(self.path, patience=self.patience)

    def load(
        self,
        scope: Scope,
        rows: Sequence[Sequence[Any]],
        *,
        schema: pa.Schema = SCHEMA,
        stream: StreamId = STREAM,
        target: Target = TARGET,
        bookmark: Bookmark | None = BOOKMARK,
        **facts: Any,
    ) -> LoadReport:
        return self.load_batches(
            scope,
            iter([batch(rows, schema)]),
            schema=schema,
            stream=stream,
            target=target,
            bookmark=bookmark,
            **facts,
        )

    def load_batches(
        self,
        scope: Scope,
        batches: Iterator[Batch],
        *,
        schema: pa.Schema = SCHEMA,
        stream: StreamId = STREAM,
        target: Target = TARGET,
        bookmark: Bookmark | None = BOOKMARK,
        max_rejected: int = 10,
        **facts: Any,
    ) -> LoadReport:
        with self.destination.stage(
            stream, target, schema, batches, max_rejected=max_rejected
        ) as stage:
            return stage.commit(scope, bookmark, draft(**facts))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(self.path) as connection:
            return connection.execute(statement).fetchall()

    def execute(self, statement: str) -> None:
        with duckdb.connect(self.path) as connection:
            connection.execute(statement)

    def rows(self, table: str = "shop.orders") -> list[tuple[Any, ...]]:
        """The rows without system columns, in order."""
        return self.query(
            f"SELECT * EXCLUDE (_pgi_synced_at) FROM {table} ORDER BY ALL NULLS FIRST"
        )

    def synced(self, table: str = "shop.orders") -> dict[Any, str]:
        """`id` to `_pgi_synced_at`."""
        return dict(self.query(f"SELECT id, _pgi_synced_at::VARCHAR FROM {table}"))

    def tables(self) -> list[str]:
        """Every table of the file."""
        return [
            row[0]
            for row in self.query(
                "SELECT schema_name || '.' || table_name FROM duckdb_tables() ORDER BY ALL"
            )
        ]
