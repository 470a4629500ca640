"""The server's statistics of tables."""

from __future__ import annotations

import time

from pg_ingest.postgres.activity import Activity, read_activity
from pg_ingest.postgres.catalog import describe
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


def test_partitions_count_for_their_root(database: Database) -> None:
    database.execute(
        "create table t (id int) partition by range (id);"
        "create table t1 partition of t for values from (0) to (10);"
        "create table t2 partition of t for values from (10) to (20);"
        "create table u (id int); create view v as select 1 as one"
    )
    with database.connect() as writer:
        writer.execute("insert into t select generate_series(1, 15)")
        writer.execute("update t set id = id where id < 4")
        writer.execute("delete from t where id > 11")
    ids = [TableId("public", name) for name in ("t", "u", "v")]
    with server_for(database).session(database.name) as session:
        tables = [describe(session, each) for each in ids]
        deadline = time.monotonic() + 20
        while (found := read_activity(session, tables))[ids[0]] != Activity(15, 3, 4):
            assert time.monotonic() < deadline, found
    assert found == {ids[0]: Activity(15, 3, 4), ids[1]: Activity(0, 0, 0)}


def test_what_next_to_nothing_is() -> None:
    assert not Activity(1000, 5000, 1).deletes
    assert Activity(1000, 0, 2).deletes
    assert Activity(0, 0, 0).deletes
