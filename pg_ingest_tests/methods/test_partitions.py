"""A key-based table whose partitions change."""

from __future__ import annotations

from pg_ingest_tests.methods.conftest import Pair, keyed

BY_ID = keyed("t", "id")


def test_key_based_reads_what_was_attached_below_its_position(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text) partition by range (id);"
        "create table t1 partition of t for values from (50) to (200);"
        "insert into t select g, 'x' from generate_series(50, 199, 10) g"
    )
    pair.sync(BY_ID)
    pair.database.execute(
        "create table t0 (id int not null, v text); insert into t0 values (7, 'old')"
    )
    pair.database.execute("alter table t attach partition t0 for values from (0) to (50)")
    report = pair.sync(BY_ID)
    assert "attached with rows: public.t0" in " ".join(report.notes)
    assert pair.stored(BY_ID) == pair.source("select * from t")
    pair.database.execute("create table t3 partition of t for values from (200) to (300)")
    pair.database.execute("insert into t values (210, 'new')")
    report = pair.sync(BY_ID)
    assert (report.phase, report.rows_read) == ("incremental", 2)
    assert pair.stored(BY_ID) == pair.source("select * from t")
