"""A large table is read by several connections, and is still what it was at one moment."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Any

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.errors import SourceUnreachable
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import all_rows
from pg_ingest.progress import Progress
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed

TABLE = full("t")
SMALL_CHUNKS = {"chunk_rows": 500, "load_threads": 3}


def made(pair: Pair, rows: int = 6000) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text, w int default 0)"
        " with (autovacuum_enabled = off);"  # which would change how many rows the planner expects
        f" insert into t select g, repeat('x', 100), 0 from generate_series(1, {rows}) g; analyze t"
    )


def load(pair: Pair, replication: Replication = TABLE, **options: Any) -> LoadReport:
    limits = {**SMALL_CHUNKS, **options.pop("limits", {})}
    return replicate(
        pair.server(options.pop("user", ""), **limits),
        pair.destination,
        replication,
        pair.database.name,
        max_rejected=0,
        **options,
    )


def connections(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [
        record.args[1]  # type: ignore[index, misc]
        for record in caplog.records
        if "reading in parallel" in record.msg
    ]


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, all_rows.__name__)


def test_a_large_table_is_read_by_several(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    made(pair)
    report = load(pair)
    assert connections(caplog) == [3]
    assert report.counts.total == 6000
    assert pair.stored(full("t")) == pair.source("select * from t")
    assert load(pair).counts.changed is False


@pytest.mark.parametrize("which", [full("t"), differing("t")], ids=lambda each: each.method)
def test_the_rows_are_those_of_one_moment(
    pair: Pair, caplog: pytest.LogCaptureFixture, which: Replication
) -> None:
    """Each update moves all rows to other pages and leaves `w` the same everywhere.

    Another row filter each time, so that `snapshot_diff` has nothing to compare with.
    """
    made(pair)
    load(pair, which)
    with (
        pair.database.connect() as connection,
        meanwhile(lambda: connection.execute("update t set w = w + 1")),
    ):
        for number in range(3):
            filtered = replace(which, where=f"id > -{number}")
            assert load(pair, filtered).counts.total == 6000
            assert len(set(pair.stored(full("t"), "w"))) == 1
            assert len(set(pair.stored(full("t"), "id"))) == 6000
    assert set(connections(caplog)) == {3}
    load(pair, which)
    assert pair.stored(which) == pair.source("select * from t")


def test_partitions_are_cut_together(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.database.execute(
        "create table t (id int, v text) partition by range (id);"
        " create table t1 partition of t for values from (0) to (1000);"
        " create table t2 partition of t for values from (1000) to (100000);"
        " insert into t select g, repeat('x', 90) from generate_series(1, 6000) g; analyze t"
    )
    load(pair)
    assert connections(caplog) == [3]
    assert pair.stored(full("t")) == pair.source("select * from t")


def test_a_place_that_is_taken_is_not_waited_for(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    made(pair)
    load(pair, limits={"connections": 1})
    assert connections(caplog) == []
    load(pair, limits={"connections": 2})
    assert connections(caplog) == [2]
    assert pair.stored(full("t")) == pair.source("select * from t")


def test_a_filter_that_leaves_few_rows_keeps_its_index(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    made(pair, 12000)
    load(pair, full("t", where="id < 1500"))
    assert connections(caplog) == []
    load(pair, full("t", where="id < 9000"))
    assert connections(caplog) == [3]
    assert pair.stored(full("t"), "count(*)") == [(8999,)]


def test_the_first_load_of_a_key_based_table(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    made(pair)
    load(pair, keyed("t", "id", key=("id",)))
    assert pair.stored(full("t")) == pair.source("select * from t")


@pytest.mark.parametrize(
    "which", [keyed("t", "id"), by_xmin("t"), delta("t")], ids=lambda each: each.method
)
def test_what_must_be_read_again_is_read_by_several(
    pair: Pair, caplog: pytest.LogCaptureFixture, which: Replication
) -> None:
    """Also by a role that may read single columns; without `ctid` among them by one connection."""
    made(pair)
    role = f"some_columns_{pair.database.name}"
    pair.database.execute(
        f"create role {role} login; grant select (id, v, w, ctid, xmin, tableoid) on t to {role}"
    )
    try:
        load(pair, which, user=role)
        assert connections(caplog) == []
        pair.database.execute("alter table t add y int default 7")
        pair.database.execute(f"grant select (y) on t to {role}")
        assert load(pair, which, user=role).phase == "snapshot"
        assert connections(caplog) == [3]
        pair.database.execute("alter table t add z int default 8")
        pair.database.execute(
            f"grant select (z) on t to {role}; revoke select (ctid) on t from {role}"
        )
        assert load(pair, which, user=role).rows_read == 6000
        assert connections(caplog) == [3]
        assert pair.stored(which) == pair.source("select * from t")
    finally:
        pair.database.execute(f"drop owned by {role}; drop role {role}")


def test_nobody_wants_the_rows_any_more(pair: Pair) -> None:
    """The threads end before their sessions do."""
    made(pair, 20000)
    load(pair, by_xmin("t"))
    pair.database.execute("alter table t add y int default 7")

    def fail(_: Progress) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        load(pair, by_xmin("t"), progress=fail)
    assert not [t for t in threading.enumerate() if t.name == "all_rows"]
    assert load(pair, by_xmin("t")).counts.total == 20000


def test_one_of_them_breaks(pair: Pair) -> None:
    """Its error comes out, nothing is stored, and no session is left behind."""
    made(pair, 20000)

    def kill(_: Progress) -> None:
        pair.database.rows(
            "select pg_terminate_backend(max(pid), 5000) from pg_stat_activity where"
            " datname = current_database() and application_name like 'pg_ingest/%/sync'"
        )

    with pytest.raises(SourceUnreachable):
        load(pair, progress=kill)
    assert pair.bookmark(full("t")) is None
    left = pair.database.rows(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name like 'pg_ingest/%'"
    )
    assert left == [(0,)]
    assert not [t for t in threading.enumerate() if t.name == "all_rows"]


def test_stopped_by_the_reader(pair: Pair) -> None:
    made(pair, 20000)

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(pair, progress=stop)
    assert not [t for t in threading.enumerate() if t.name == "all_rows"]
    assert load(pair).counts.total == 20000


def test_a_batch_has_about_as_many_rows_as_are_to_be_fetched(pair: Pair) -> None:
    made(pair, 20000)
    seen: list[int] = []
    load(
        pair,
        limits={"fetch_rows": 700, "load_threads": 1, "chunk_rows": 10**6},
        progress=lambda now: seen.append(now.rows),
    )
    assert 300 < seen[0] < 1500
