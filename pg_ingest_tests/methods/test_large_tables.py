"""What a large first load is to its source: short transactions, few connections; and how it is cut."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.large_tables import SplitHints
from pg_ingest.config.selection import Replication
from pg_ingest.loading import chunked_load
from pg_ingest.loading.replicate import replicate
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed

IN_CHUNKS = [keyed("t", "id"), by_xmin("t"), delta("t"), differing("t")]
TWO = pytest.mark.parametrize("replication", IN_CHUNKS[1::2], ids=lambda each: str(each.method))
EACH = pytest.mark.parametrize("replication", IN_CHUNKS, ids=lambda each: str(each.method))

OURS = "datname = current_database() and application_name like 'pg_ingest/%'"
OLDEST = f"select min(backend_xmin::text::int8) from pg_stat_activity where {OURS}"
CONNECTIONS = f"select count(*) from pg_stat_activity where {OURS}"


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "pg_ingest")
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr("pg_ingest.loading.replicate.PROGRESS_SECONDS", 0.0)


def made(pair: Pair, columns: str = "id int primary key", values: str = "g") -> None:
    pair.database.execute(f"alter database {pair.database.name} set synchronous_commit = on")
    pair.database.execute(
        f"create table t ({columns}, v text);"
        f" insert into t select {values}, repeat('x', 100) from generate_series(1, 1000) g; analyze t"
    )


def load(pair: Pair, replication: Replication, progress: Any = None, **limits: Any) -> LoadReport:
    server = pair.server(**{"chunk_rows": 100, "load_threads": 1, **limits})
    return replicate(
        *(server, pair.destination, replication, pair.database.name),
        max_rejected=0,
        progress=progress,
    )


def chunks(caplog: pytest.LogCaptureFixture) -> int:
    """Into how many the newest load was cut."""
    told = [record.getMessage() for record in caplog.records]
    (found,) = [re.search(r"chunks=(\d+)", each) for each in told if each.startswith("load begun")]
    assert found is not None
    return int(found[1])


class Horizon:
    """At each batch: the id of a transaction that ends then, and the oldest id that we hold back."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.ended: list[int] = []
        self.held: list[int] = []

    def __call__(self, *_: Any) -> None:
        self.ended.append(self._pair.database.rows("select txid_current()")[0][0])
        self.held.append(self._pair.database.rows(OLDEST)[0][0])


@EACH
def test_the_horizon_of_the_source_moves_with_each_chunk(
    pair: Pair, caplog: pytest.LogCaptureFixture, replication: Replication
) -> None:
    made(pair)
    seen = Horizon(pair)
    assert load(pair, replication, seen).phase == "historical"
    assert len(seen.held) == chunks(caplog) == 10
    assert all(held > before for before, held in zip(seen.ended, seen.held[1:], strict=False))
    assert pair.stored(replication) == pair.source("select * from t")


def test_one_snapshot_holds_it_for_the_whole_load(pair: Pair) -> None:
    """What the test above looks for is there to be found."""
    made(pair)
    seen = Horizon(pair)
    load(pair, full("t"), seen, load_threads=2)
    assert len(seen.held) > 5
    assert seen.held[-1] <= seen.ended[0]


@pytest.mark.parametrize("replication", [by_xmin("t"), full("t")], ids=["chunks", "one snapshot"])
@pytest.mark.parametrize(("allowed", "threads"), [(2, 6), (6, 1)])
def test_no_more_connections_than_allowed(
    pair: Pair, replication: Replication, allowed: int, threads: int
) -> None:
    made(pair)
    seen: list[int] = []

    def progress(*_: Any) -> None:
        seen.append(pair.database.rows(CONNECTIONS)[0][0])

    load(pair, replication, progress, connections=allowed, load_threads=threads)
    assert max(seen) <= min(allowed, threads)
    assert pair.stored(replication) == pair.source("select * from t")


@EACH
def test_chunks_are_read_by_several_connections_at_once(
    pair: Pair, caplog: pytest.LogCaptureFixture, replication: Replication
) -> None:
    """While one chunk is being read, somebody else stores another."""
    made(pair)

    def others() -> list[str]:
        told = (each for each in caplog.records if each.getMessage().startswith("chunk stored"))
        return [each.threadName or "" for each in told if each.threadName == "chunked_load"]

    def progress(*_: Any) -> None:
        deadline = time.monotonic() + 30
        while not others():
            assert time.monotonic() < deadline, "nobody else reads"
            time.sleep(0.01)

    load(pair, replication, progress, load_threads=2)
    assert pair.stored(replication) == pair.source("select * from t")


@TWO
def test_how_it_is_cut(
    pair: Pair, caplog: pytest.LogCaptureFixture, replication: Replication
) -> None:
    made(pair)
    for limits, count in (
        ({"chunk_rows": 200}, 5),
        ({"chunk_rows": 10, "chunks_per_table": 7}, 7),
    ):
        pair.path.unlink(missing_ok=True)
        caplog.clear()
        load(pair, replication, **limits)
        assert chunks(caplog) == count
    assert pair.stored(replication) == pair.source("select * from t")


@TWO
def test_what_the_statistics_do_not_know(
    pair: Pair, caplog: pytest.LogCaptureFixture, replication: Replication
) -> None:
    """`split_hints.rows` makes a table large that looks small, and one small that looks large."""
    made(pair)
    load(pair, replace(replication, split_hints=SplitHints(rows=4000)), chunk_rows=1000)
    assert chunks(caplog) == 4
    pair.path.unlink()
    assert load(pair, replace(replication, split_hints=SplitHints(rows=100))).phase == "snapshot"
