"""Full table: every shape of relation, windows, and failures that must not empty anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pg_ingest.bookmark import FullTableBookmark
from pg_ingest.config.model import PartitionBy
from pg_ingest.destinations.duckdb.stage import DuckDbStage
from pg_ingest.errors import (
    ConfigError,
    PermissionMissing,
    PgIngestError,
    QueryRefused,
    SourceBusy,
    SourceTableChanged,
    SourceUnreachable,
)
from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres.session import Session
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.methods.conftest import Pair, full

SHAPES = {
    "with_key": "create table t (id int primary key, v text); insert into t values (1,'a'),(2,null)",
    "without_key_and_with_duplicates": "create table t (a int, b text);"
    " insert into t values (1,'x'),(1,'x'),(1,'x'),(null,null),(null,null),(2,'')",
    "empty": "create table t (id int primary key, v text)",
    "one_column_of_nulls": "create table t (v text); insert into t values (null),(null),('')",
    "partitioned_root": "create table t (id int, at date) partition by range (at);"
    " create table t1 partition of t for values from ('2024-01-01') to ('2025-01-01');"
    " create table t2 partition of t default;"
    " insert into t values (1,'2024-05-01'),(2,'2025-05-01'),(3,null)",
    "view": "create table base (id int); insert into base values (1),(2);"
    " create view t as select id, id * 2 as twice from base",
    "materialized_view": "create materialized view t as select g as id from generate_series(1,9) g",
    "generated_column": "create table t (a int, b int generated always as (a * 2) stored);"
    " insert into t (a) values (1),(null)",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_relation_arrives_as_it_is(pair: Pair, shape: str) -> None:
    pair.database.execute(SHAPES[shape])
    report = pair.sync(full("t"))
    expected = pair.source("select * from t")
    assert pair.stored(full("t")) == expected
    assert report.counts.total == report.rows_read == len(expected)
    assert report.phase == "snapshot"
    again = pair.sync(full("t"))
    assert not again.counts.changed
    assert pair.stored(full("t")) == expected


def test_a_parent_and_its_child_are_two_tables(pair: Pair) -> None:
    pair.database.execute(
        "create table parent (id int); create table child (extra text) inherits (parent);"
        " insert into parent values (1); insert into child values (2, 'x')"
    )
    pair.sync(full("parent"))
    pair.sync(full("child"))
    assert pair.stored(full("parent")) == [("1",)]
    assert pair.stored(full("child")) == [("2", "x")]


def test_a_partition_may_be_read_alone(pair: Pair) -> None:
    pair.database.execute(SHAPES["partitioned_root"])
    pair.sync(full("t1"))
    assert pair.stored(full("t1")) == [("1", "2024-05-01")]


def test_names_are_quoted(pair: Pair) -> None:
    name = 'Ord"er; --'
    pair.database.execute(
        'create table "Ord""er; --" ("sel ect" int, "%s" text, "a""b" int);'
        ' insert into "Ord""er; --" values (1, \'%s %%\', 2)'
    )
    pair.sync(full(name))
    (status,) = pair.destination.status()
    assert (status.target.table, status.rows) == (name, 1)


def test_rows_come_and_go(pair: Pair) -> None:
    pair.database.execute("create table t (id int primary key, v text)")
    assert pair.sync(full("t")).counts.total == 0
    pair.database.execute("insert into t select g, g::text from generate_series(1, 1000) g")
    assert pair.sync(full("t")).counts.total == 1000
    pair.database.execute("delete from t where id > 10; update t set v = 'new' where id = 1")
    assert pair.sync(full("t")).counts.total == 10
    assert pair.stored(full("t")) == pair.source("select * from t")
    pair.database.execute("truncate t")
    assert pair.sync(full("t")).counts.total == 0
    assert pair.stored(full("t")) == []


def test_the_bookmark_says_when_and_where(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    before = datetime.now(UTC)
    report = pair.sync(full("t"))
    bookmark = pair.bookmark(full("t"))
    assert isinstance(bookmark, FullTableBookmark)
    assert before <= datetime.fromisoformat(bookmark.snapshot_at) <= datetime.now(UTC)
    assert report.position_to == bookmark.snapshot_lsn
    assert report.lag_bytes is not None and report.lag_bytes >= 0


def test_only_some_columns_and_rows(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, a text, secret text);"
        " insert into t select g, 'a' || g, 's' from generate_series(1, 10) g"
    )
    picked = full("t", columns=("id", "a"), where="id % 2 = 0 -- even")
    pair.sync(picked)
    assert pair.stored(picked) == pair.source("select id, a from t where id % 2 = 0")
    rest = full("t", exclude_columns=("secret",), where="a like 'a1%' or id = 2")
    pair.sync(rest)
    assert pair.stored(rest) == [("1", "a1"), ("10", "a10"), ("2", "a2")]


def test_a_wrong_row_filter_is_refused_before_anything_is_read(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    pair.sync(full("t"))
    for wrong in ("nope = 1", "id = ", "id) or (id", "id"):
        with pytest.raises(QueryRefused, match="row filter"):
            pair.sync(full("t", where=wrong))
    assert len(pair.stored(full("t"))) == 2


def test_a_configured_column_that_is_gone(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    pair.sync(full("t", columns=("id", "v")))
    pair.database.execute("alter table t rename v to w")
    with pytest.raises(SourceTableChanged, match="no column v"):
        pair.sync(full("t", columns=("id", "v")))
    assert len(pair.stored(full("t"))) == 2


def test_added_and_retyped_columns_arrive(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    pair.sync(full("t"))
    pair.database.execute("alter table t add n int default 7")
    pair.sync(full("t"))
    assert pair.stored(full("t")) == [("1", "a", "7"), ("2", None, "7")]
    pair.database.execute("alter table t alter n type text using 'n' || n, drop v")
    pair.sync(full("t"))
    assert pair.stored(full("t")) == [("1", "n7"), ("2", "n7")]


def test_a_dropped_table(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    pair.sync(full("t"))
    pair.database.execute("drop table t")
    with pytest.raises(SourceTableChanged, match=r"public\.t does not exist"):
        pair.sync(full("t"))
    assert len(pair.stored(full("t"))) == 2


def test_columns_without_a_grant_are_named(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    role = f"reader_{pair.database.name}"
    pair.database.execute(
        f"create role {role} login; grant usage on schema public to {role};"
        f" grant select (id) on t to {role}"
    )
    try:
        with pytest.raises(PermissionMissing) as caught:
            pair.sync(full("t"), user=role)
        assert caught.value.detail == "v"
        assert f'GRANT SELECT ("v") ON "public"."t" TO "{role}";' in caught.value.hint
        pair.sync(full("t", columns=("id",)), user=role)
        assert pair.stored(full("t")) == [("1",), ("2",)]
    finally:
        pair.database.execute(f"drop owned by {role}; drop role {role}")


def test_a_read_that_breaks_in_the_middle_leaves_the_old_rows(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, repeat('x', 500) from generate_series(1, 100) g"
    )
    pair.sync(full("t"))
    old, bookmark = pair.stored(full("t")), pair.bookmark(full("t"))
    pair.database.execute(
        "insert into t select g, repeat('y', 500) from generate_series(101, 80000) g"
    )
    seen: list[int] = []

    def kill(progress: Any) -> None:
        if not seen:
            pair.database.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where application_name like 'pg_ingest/%' and datname = current_database()"
            )
        seen.append(progress.rows)

    with pytest.raises(SourceUnreachable):
        pair.sync(full("t"), progress=kill)
    assert 0 < seen[0] < 80000
    assert pair.stored(full("t")) == old
    assert pair.bookmark(full("t")) == bookmark
    assert pair.sync(full("t")).counts.total == 80000


def test_a_view_that_fails_at_a_late_row_leaves_the_old_rows(pair: Pair) -> None:
    pair.database.execute(
        "create table base (n int); insert into base select generate_series(1, 10);"
        " create view t as select 100 / n as v, repeat('x', 300) as w from base"
    )
    pair.sync(full("t"))
    old = pair.stored(full("t"))
    pair.database.execute(
        "insert into base select generate_series(1, 50000); insert into base values (0)"
    )
    with pytest.raises(QueryRefused):
        pair.sync(full("t"))
    assert pair.stored(full("t")) == old


@pytest.mark.parametrize(
    "change",
    [
        "truncate t; insert into t select g from generate_series(1, 500) g",
        "alter table t alter id type bigint",
    ],
)
def test_a_rewrite_under_the_snapshot_is_not_an_empty_table(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    pair.database.execute("create table t (id int); insert into t select generate_series(1, 1000)")
    pair.sync(full("t"))
    old = pair.stored(full("t"))
    copy = Session.copy

    def rewrite_first(session: Any, query: Any) -> Any:
        with pair.database.connect(autocommit=False) as writer:
            writer.execute(change)
        return copy(session, query)

    monkeypatch.setattr(Session, "copy", rewrite_first)
    with pytest.raises(SourceBusy, match="truncated or rewritten"):
        pair.sync(full("t"))
    assert pair.stored(full("t")) == old
    monkeypatch.undo()
    pair.sync(full("t"))
    assert pair.stored(full("t")) == pair.source("select * from t")


def test_the_read_is_one_moment_while_writers_write(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, balance int);"
        " insert into t select g, 100 from generate_series(1, 200) g"
    )
    transfer = (
        "with pick as (select 1 + (random() * 199)::int as a, 1 + (random() * 199)::int as b)"
        " update t set balance = balance + case id when a then 1 else -1 end"
        " from pick where id in (a, b) and a <> b"
    )
    with pair.database.connect() as writer, meanwhile(lambda: writer.execute(transfer)):
        for _ in range(3):
            pair.sync(full("t"))
            assert pair.stored(full("t"), "sum(balance), count(*)") == [(20000, 200)]


WINDOWS = PartitionBy(column="at", every="day", start=datetime(2024, 1, 1, tzinfo=UTC))
DAYS = [
    ("2024-01-01T00:00:00+00:00", "2024-01-02T00:00:00+00:00"),
    ("2024-01-02T00:00:00+00:00", "2024-01-03T00:00:00+00:00"),
]


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
def test_a_window_is_replaced_alone(pair: Pair, kind: str) -> None:
    pair.database.execute(
        f"create table t (id int, at {kind});"
        " insert into t values (1, '2024-01-01'), (2, '2024-01-02'), (3, '2024-01-01'), (4, null)"
    )
    windowed = full("t", partition_by=WINDOWS)
    for day in DAYS:
        report = pair.sync(windowed, window=day)
        assert report.phase == "window"
        assert (report.position_from, report.position_to) == day
        assert "NULL belong to no window" in report.notes[0]
    assert pair.stored(windowed, "id") == [(1,), (2,), (3,)]
    pair.database.execute("delete from t where id = 1; update t set id = 20 where id = 2")
    pair.sync(windowed, window=DAYS[0])
    assert pair.stored(windowed, "id") == [(2,), (3,)]
    assert not pair.sync(windowed, window=DAYS[0]).counts.changed
    pair.sync(windowed, window=DAYS[1])
    assert pair.stored(windowed, "id") == [(20,), (3,)]


def test_a_window_and_partition_by_belong_together(pair: Pair) -> None:
    pair.database.execute("create table t (id int, at date, n int)")
    with pytest.raises(ConfigError, match="none is given"):
        pair.sync(full("t", partition_by=WINDOWS))
    with pytest.raises(ConfigError, match="not read in windows"):
        pair.sync(full("t"), window=DAYS[0])
    hourly = WINDOWS.model_copy(update={"every": type(WINDOWS.every)("hour")})
    with pytest.raises(ConfigError, match="cut into hours"):
        pair.sync(full("t", partition_by=hourly), window=DAYS[0])
    by_number = WINDOWS.model_copy(update={"column": "n"})
    with pytest.raises(ConfigError, match="windows cannot be made"):
        pair.sync(full("t", partition_by=by_number), window=DAYS[0])
    gone = WINDOWS.model_copy(update={"column": "gone"})
    with pytest.raises(SourceTableChanged, match="no column gone"):
        pair.sync(full("t", partition_by=gone), window=DAYS[0])


def test_a_lock_on_the_table_is_a_passing_fault(pair: Pair) -> None:
    pair.database.execute(SHAPES["with_key"])
    pair.sync(full("t"))
    with pair.database.connect(autocommit=False) as holder:
        holder.execute("lock table t in access exclusive mode")
        with pytest.raises(SourceBusy) as caught:
            replicate_with_little_patience(pair)
        holder.rollback()
    assert isinstance(caught.value, PgIngestError)
    assert len(pair.stored(full("t"))) == 2


def replicate_with_little_patience(pair: Pair) -> None:
    server = pair.server(lock_timeout=1)
    replicate(server, pair.destination, full("t"), pair.database.name, max_rejected=0)


def test_the_sources_transaction_is_over_before_the_commit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.database.execute(SHAPES["with_key"])
    sessions: list[Any] = []
    commit = DuckDbStage.commit

    def look(stage: Any, *arguments: Any) -> Any:
        sessions.extend(
            pair.database.rows(
                "select 1 from pg_stat_activity where application_name like 'pg_ingest/%'"
                " and datname = current_database() and backend_xmin is not null"
            )
        )
        return commit(stage, *arguments)

    monkeypatch.setattr(DuckDbStage, "commit", look)
    pair.sync(full("t"))
    assert sessions == []
