"""First loads in chunks: what is written meanwhile is found by the transaction that wrote it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.errors import SourceUnreachable
from pg_ingest.loading import chunked_load
from pg_ingest.loading.replicate import replicate
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, full

METHODS = pytest.mark.parametrize("replication", [by_xmin("t"), delta("t")], ids=["xmin", "delta"])


@pytest.fixture(autouse=True)
def told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)


def made(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, 'x' from generate_series(1, 500) g; analyze t"
    )


def load(pair: Pair, replication: Replication, progress: Callable[..., None]) -> LoadReport:
    server = pair.server(chunk_rows=100, load_threads=1)
    return replicate(
        *(server, pair.destination, replication, pair.database.name),
        max_rejected=0,
        progress=progress,
    )


def equal(pair: Pair, replication: Replication) -> None:
    """By xmin, rows that were deleted or got another key since their chunk are still there."""
    there = pair.source("select * from t")
    stored = pair.stored(replication)
    if replication.method == "xmin":
        keys = {row[0] for row in there}
        stored = [row for row in stored if row[0] in keys]
    assert stored == there


@METHODS
def test_writers_during_the_load(pair: Pair, replication: Replication) -> None:
    made(pair)
    left = [
        "delete from t where id in (3, 499)",
        "update t set v = 'y' where id in (5, 498)",
        "insert into t values (-1, 'n'), (1000, 'n')",
        "update t set id = id + 2000 where id in (7, 497)",
    ]

    def progress(*_: Any) -> None:
        if left:
            pair.database.execute(left.pop(0))

    with pair.database.connect() as late:
        late.execute(
            "begin; update t set v = 'late' where id = 1; insert into t values (-2, 'late')"
        )
        report = load(pair, replication, progress)
        assert not left
        assert report.phase == "historical"
        equal(pair, replication)
        late.execute("commit")
    pair.sync(replication)
    equal(pair, replication)


@METHODS
def test_a_load_that_breaks_off_goes_on(pair: Pair, replication: Replication) -> None:
    made(pair)
    seen: list[int] = []

    def broken(progress: Any, *_: Any) -> None:
        seen.append(progress.rows)
        if progress.rows > 250:
            raise SourceUnreachable("broken by a test")

    with pytest.raises(SourceUnreachable):
        load(pair, replication, broken)
    pair.database.execute(
        "update t set v = 'y' where id in (5, 498); delete from t where id = 4; insert into t values (0, 'n')"
    )
    load(pair, replication, lambda *_: None)
    equal(pair, replication)
    assert pair.sync(replication).phase == "incremental"
    equal(pair, replication)


def test_without_deletes_a_large_table_is_loaded_once(pair: Pair) -> None:
    made(pair)
    replication = delta("t", replicate_deletes=False)
    assert load(pair, replication, lambda *_: None).phase == "historical"
    assert load(pair, replication, lambda *_: None).phase == "incremental"
    assert load(pair, by_xmin("t"), lambda *_: None).phase == "incremental"
    assert load(pair, delta("t"), lambda *_: None).phase == "incremental"


def test_a_load_after_another_method_is_said_before_its_first_chunk(pair: Pair) -> None:
    made(pair)
    pair.sync(full("t"))
    said: list[str] = []
    rows_when_said: list[int] = []
    server = pair.server(chunk_rows=100, load_threads=1)
    report = replicate(
        *(server, pair.destination, by_xmin("t"), pair.database.name),
        max_rejected=0,
        say=said.append,
        progress=lambda _now: rows_when_said.append(len(said)),
    )
    assert said == ["all rows are read once, in chunks: it was loaded by full_table before"]
    assert set(rows_when_said) == {1}
    assert report.phase == "historical"
    assert said[0] in report.notes
    equal(pair, by_xmin("t"))
