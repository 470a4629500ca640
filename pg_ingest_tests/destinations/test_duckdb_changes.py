"""Folded logs applied to a real file, against the table that the log is about."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_ingest.batch import Batch, Changes, Counts, Everything, LoadCounts, Scope
from pg_ingest.bookmark import FullTableBookmark
from pg_ingest.changelog.fold import count, fold
from pg_ingest.changelog.states import counted_rows, keyed_rows, stored_fields
from pg_ingest.decode.types import arrow_schema
from pg_ingest.destinations.destination import LoadReportDraft, StreamId, Target
from pg_ingest.destinations.duckdb.destination import DuckDbDestination
from pg_ingest.errors import DestinationFailed
from pg_ingest.table import Column, PgType, TypeKind
from pg_ingest_tests.changelog.simulated import CHANGES, Log, Row, run

STREAM = StreamId("shop", "shop", "public", "t")
TARGET = Target("shop", "t")


def column(name: str, attnum: int, kind: str) -> Column:
    return Column(name, attnum, PgType(0, kind, "pg_catalog", TypeKind.BASE, -1, kind))


COLUMNS = (column("id", 1, "int4"), column("a", 2, "text"), column("b", 3, "text"))


class Store:
    def __init__(self, folder: Path, *, soft: bool = False) -> None:
        self.path = folder / "warehouse.duckdb"
        self.destination = DuckDbDestination(self.path)
        self.soft = soft

    def load(self, batch: Batch, scope: Scope) -> LoadCounts:
        schema = batch.rows.schema
        draft = LoadReportDraft(time.time(), "changes", "", "")
        with self.destination.stage(STREAM, TARGET, schema, iter([batch]), max_rejected=0) as stage:
            return stage.commit(scope, FullTableBookmark("0/1", ""), draft).counts

    def snapshot(self, rows: list[Row]) -> None:
        fields = stored_fields(soft=self.soft)
        schema = pa.schema([*arrow_schema(COLUMNS), *fields])
        named = [{"id": int(row[0] or 0), "a": row[1], "b": row[2]} for row in rows]
        self.load(Batch(pa.RecordBatch.from_pylist(named, schema=schema)), Everything())

    def keyed(self, log: Log) -> LoadCounts:
        folded = fold(log.frame(), ["id"])
        batch = keyed_rows(folded.states, COLUMNS, ["id"], soft=self.soft, size=1)
        return self.load(batch, Changes(("id",), folded.truncated, self.soft))

    def counted(self, log: Log) -> LoadCounts:
        counted = count(log.frame(), ["id", "a", "b"])
        batch = counted_rows(counted.rows, COLUMNS, soft=self.soft, size=1)
        return self.load(batch, Counts(counted.truncated, self.soft))

    def rows(self, *, gone: bool = False) -> Counter[Row]:
        where = f"WHERE _pgi_deleted_at IS {'NOT ' if gone else ''}NULL" if self.soft else ""
        with duckdb.connect(str(self.path)) as connection:
            found = connection.execute(f"SELECT id::VARCHAR, a, b FROM shop.t {where}").fetchall()
        return Counter(found)


@settings(max_examples=12, deadline=None)
@given(CHANGES, CHANGES, CHANGES, st.booleans(), st.booleans())
def test_a_keyed_table_ends_where_its_source_ends(
    earlier: list[tuple[Any, ...]],
    first: list[tuple[Any, ...]],
    second: list[tuple[Any, ...]],
    full: bool,
    soft: bool,
) -> None:
    table: dict[str, Row] = {}
    run(earlier, table, Log(full=full))
    with TemporaryDirectory() as folder:
        store = Store(Path(folder), soft=soft)
        store.snapshot(list(table.values()))
        for changes in (first, second):
            before = len(table)
            log = Log(full=full)
            run(changes, table, log)
            counts = store.keyed(log)
            assert store.rows() == Counter(table.values())
            assert before + counts.inserted - counts.deleted == len(table)


def test_equal_rows_without_a_key_keep_their_number(tmp_path: Path) -> None:
    store = Store(tmp_path)
    row: Row = ("1", "x", None)
    store.snapshot([row] * 3)
    log = Log(full=True)
    log.write("d", row)
    log.write("i", ("2", "y", ""))
    log.write("i", ("2", "y", ""))
    counts = store.counted(log)
    assert store.rows() == Counter({row: 2, ("2", "y", ""): 2})
    assert (counts.inserted, counts.deleted) == (2, 1)


def test_a_row_to_delete_that_is_not_there_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.snapshot([("1", "x", None)])
    log = Log(full=True)
    log.write("i", ("3", "z", "z"))
    log.write("d", ("2", "y", None))
    with pytest.raises(DestinationFailed, match="not the table that the log continues"):
        store.counted(log)
    assert store.rows() == Counter({("1", "x", None): 1})


def test_a_left_out_value_that_no_stored_row_has_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.snapshot([("1", "x", "kept")])
    log = Log(full=False)
    log.write("u", ("2", "y", None), kept=("b",))
    with pytest.raises(DestinationFailed, match="not the table that the log"):
        store.keyed(log)
    assert store.rows() == Counter({("1", "x", "kept"): 1})


def test_soft_deletes_keep_the_row_and_a_returning_key_revives_it(tmp_path: Path) -> None:
    store = Store(tmp_path, soft=True)
    store.snapshot([("1", "x", "b"), ("2", "y", "b")])
    log = Log(full=False)
    log.old("d", ("1", "x", "b"))
    counts = store.keyed(log)
    assert (counts.inserted, counts.updated, counts.deleted) == (0, 0, 1)
    assert store.rows() == Counter({("2", "y", "b"): 1})
    assert store.rows(gone=True) == Counter({("1", "x", "b"): 1})
    log = Log(full=False)
    log.write("i", ("1", "again", "b"))
    store.keyed(log)
    assert store.rows(gone=True) == Counter()
    assert store.rows()["1", "again", "b"] == 1
    log = Log(full=False)
    log.write("t", (None, None, None))
    assert store.keyed(log).deleted == 2
    assert sum(store.rows(gone=True).values()) == 2
