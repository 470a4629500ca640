"""What becomes of partitions between two syncs, by every method: no row says that it was changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres import row_versions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.methods.conftest import by_xmin, delta, differing, full, keyed

METHODS = [full("t"), keyed("t", "k"), by_xmin("t"), delta("t"), differing("t"), logged("t")]

MADE = """
create sequence s;
create table t (id int primary key, v text, k bigint default nextval('s')) partition by range (id);
create table t1 partition of t for values from (0) to (100);
create table t2 partition of t for values from (100) to (200) partition by range (id);
create table t2a partition of t2 for values from (100) to (150);
create table t2b partition of t2 for values from (150) to (200);
create table rest partition of t default;
insert into t select g, 'x' from generate_series(0, 290, 10) g;
"""
STEPS = {
    "below another partition": ["alter table t2 detach partition t2b"],
    "dropped and made anew with other rows": [
        "drop table t1",
        "create table t1 partition of t for values from (0) to (100)",
        "insert into t values (5, 'new'), (10, 'new')",
    ],
    "away and back, changed": [
        "alter table t detach partition t1",
        "delete from t1 where id = 10; insert into t1 values (11, 'away')",
        "alter table t attach partition t1 for values from (0) to (100)",
    ],
    "two that change places": [
        "alter table t detach partition t1; alter table t2 detach partition t2a",
        "alter table t1 rename to was; alter table t2a rename to t1; alter table was rename to t2a",
        "update t1 set id = id - 100; update t2a set id = 100 + id / 2",
        "alter table t attach partition t1 for values from (0) to (100);"
        " alter table t2 attach partition t2a for values from (100) to (150)",
    ],
    "emptied below": ["truncate t2a", "insert into t values (103, 'after')"],
    "from the default one": [
        "alter table t detach partition rest",
        "create table t3 partition of t for values from (200) to (300)",
        "insert into t select * from rest where id < 300",
        "create table rest2 partition of t default",
    ],
    "concurrently": [
        "alter table t detach partition rest",
        "alter table t detach partition t1 concurrently",
        "insert into t values (101, 'newest')",
    ],
}
GONE_STAY = {"key_based", "xmin"}


@pytest.fixture
def shop(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Following]:
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    database.execute(MADE)
    with following(database, tmp_path) as found:
        yield found


def sync_all(shop: Following) -> None:
    """Each method into its own file; compare each."""
    for one in METHODS:
        into = replace(shop, warehouse=f"{one.method}.duckdb")
        if one.method == "log_based":
            into.sync(one)
        else:
            replicate(into.server, into.destination, one, into.database.name, max_rejected=0)
        there, stored = into.source("t"), into.stored("t")
        if one.method in GONE_STAY:
            keys = {row[0] for row in there}
            stored = [row for row in stored if row[0] in keys]
        assert stored == there, one.method


@pytest.mark.parametrize("what", STEPS)
def test_between_two_syncs(shop: Following, what: str) -> None:
    sync_all(shop)
    for statement in STEPS[what]:
        shop.database.execute(statement)
    sync_all(shop)
    shop.database.execute(
        "update t set v = 'later', k = nextval('s') where id in (10, 103, 120, 210)"
    )
    sync_all(shop)


def test_a_partition_that_is_being_detached(shop: Following) -> None:
    """Its rows are gone for new snapshots, although it waits for older ones, and may do so for ever."""
    shop.database.execute("drop table rest")
    sync_all(shop)
    with shop.database.connect(autocommit=False) as older, shop.database.connect() as waiting:
        older.execute("select count(*) from t")
        waiting.execute("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            waiting.execute("alter table t detach partition t1 concurrently")
        shop.database.execute("insert into t values (101, 'newest'); update t1 set v = 'apart'")
        sync_all(shop)
    shop.database.execute("alter table t detach partition t1 finalize")
    shop.database.execute("insert into t values (102, 'newer')")
    sync_all(shop)
