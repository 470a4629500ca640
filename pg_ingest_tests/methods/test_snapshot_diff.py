"""Snapshot diff: what is stored is what the snapshot saw, and only changed ranges travel."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.batch import LoadCounts, LoadReport
from pg_ingest.bookmark import SnapshotDiffBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.errors import (
    ConfigError,
    KeyNotUnique,
    MethodUnavailable,
    QueryRefused,
    SourceBusy,
)
from pg_ingest.methods import key_ranges, snapshot_diff
from pg_ingest.methods.key_ranges import KeyRanges
from pg_ingest.methods.request import Request
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.methods.conftest import Pair, differing, full, keyed

T = differing("t")


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tables of some hundred rows have many."""
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)


def ranges(pair: Pair, which: Replication = T) -> KeyRanges:
    bookmark = pair.bookmark(which)
    assert isinstance(bookmark, SnapshotDiffBookmark)
    return KeyRanges.unpacked(bookmark.ranges)


def synced(pair: Pair, which: Replication = T, query: str = "select * from t") -> LoadReport:
    """Replicate, and compare every value; then nothing is left to do."""
    report = pair.sync(which)
    assert pair.stored(which) == pair.source(query)
    again = pair.sync(which)
    assert again.rows_read == 0
    assert again.counts == LoadCounts(0, 0, 0, 0, report.counts.total)
    return report


def numbers(pair: Pair, count: int = 400) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text, n numeric(10,2));"
        f" insert into t select g, 'v' || g, g from generate_series(1, {count}) g"
    )


def test_the_first_load_reads_all_rows_and_cuts_ranges(pair: Pair) -> None:
    numbers(pair)
    report = synced(pair)
    assert report.counts == LoadCounts(400, 0, 0, 0, 400)
    assert report.phase == "snapshot"
    found = ranges(pair)
    assert sum(found.rows) == 400
    assert len(found.rows) > 25
    assert max(found.rows) <= 30


def test_only_changed_ranges_travel(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    pair.database.execute(
        "update t set v = 'new' where id in (7, 8); delete from t where id = 200;"
        " insert into t values (0, null, null)"
    )
    report = synced(pair)
    assert report.counts == LoadCounts(inserted=1, updated=2, deleted=1, rejected=0, total=400)
    assert report.phase == "incremental"
    assert 0 < report.rows_read < 80
    assert "key ranges changed" in report.notes[0]


def test_rows_that_did_not_change_keep_their_time(pair: Pair) -> None:
    numbers(pair, 10)
    pair.sync(T)
    before = dict(pair.stored(T, "id, _pgi_synced_at::varchar"))
    pair.database.execute("update t set v = 'new' where id = 5")
    pair.sync(T)
    after = dict(pair.stored(T, "id, _pgi_synced_at::varchar"))
    assert [key for key in after if after[key] != before[key]] == [5]


def test_growth_at_the_end_moves_no_other_range(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    before = ranges(pair)
    pair.database.execute("insert into t select g, 'x', 1 from generate_series(401, 900) g")
    report = synced(pair)
    assert report.counts.inserted == 500
    assert report.rows_read <= 500 + max(before.rows)
    after = ranges(pair)
    assert after.bounds[: len(before.bounds) - 1] == before.bounds[:-1]
    assert max(after.rows) <= 3 * key_ranges.wanted_rows(900)
    pair.database.execute("insert into t values (901, 'y', 2)")
    assert synced(pair).rows_read < 100


def test_emptied_ranges_are_joined(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    pair.database.execute("delete from t where id between 100 and 300")
    assert synced(pair).counts.deleted == 201
    assert len(ranges(pair).rows) < 30
    pair.database.execute("truncate t")
    assert synced(pair).counts == LoadCounts(0, 0, 199, 0, 0)
    pair.database.execute("insert into t values (1, 'again', 1)")
    assert synced(pair).counts == LoadCounts(1, 0, 0, 0, 1)


def test_keys_that_move(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    pair.database.execute(
        "update t set id = id + 1000 where id < 20; update t set id = -id where id = 300"
    )
    report = synced(pair)
    assert (report.counts.inserted, report.counts.deleted) == (20, 20)


def test_when_most_has_changed_the_table_is_replaced(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_diff, "WHOLE_FROM", 100)
    numbers(pair)
    pair.sync(T)
    pair.database.execute("update t set v = 'new' where id > 150")
    report = synced(pair)
    assert report.rows_read == 400
    assert report.counts == LoadCounts(inserted=400, updated=0, deleted=400, rejected=0, total=400)
    assert "more than half of the rows" in report.notes[1]


KEYS = {
    "int": ("k int", "{n}"),
    "skewed": ("k bigint", "({n}::bigint * {n} * {n} * {n})"),
    "both signs": ("k smallint", "({n} - 200)::smallint"),
    "numeric": ("k numeric(12)", "{n}"),
    "decimal": ("k numeric(30,3)", "({n} - 200) / 8.0"),
    "unlimited": ("k numeric", "({n} - 200) / 8.0"),
    "uuid": ("k uuid", "md5({n}::text)::uuid"),
    "text": ("k text", "chr(60 + {n} % 70) || repeat('ä', {n} % 50) || {n}"),
    "long texts": ("k text", "repeat('€', {n} % 25) || {n}"),
    "padded": ("k char(9)", "chr(33 + {n} % 5) || ' ' || {n}"),
    "day": ("k date", "date '1999-12-01' + {n}"),
    "moment": ("k timestamptz", "timestamptz '2024-03-30 22:00Z' + {n} * interval '7.3 s'"),
    "before Christ": ("k timestamp", "timestamp '0001-12-01 BC' + {n} * interval '1 day'"),
    "time": ("k time", "time '00:00' + {n} * interval '1 minute'"),
    "inet": ("k inet", "inet '10.0.0.0' + {n} * 7"),
    "oid": ("k oid", "(4294967295 - {n} * 9999999::bigint)::oid"),
    "text and int": ("a text, k int", "chr(65 + {n} % 3), {n}"),
    "few and many": ("a int, k uuid", "{n} % 2, md5({n}::text)::uuid"),
    "three": ("a bool, b date, k text", "{n} % 2 = 0, date '2024-01-01' + {n} % 5, 'k' || {n}"),
    "four": ("a int, b int, c int, k int", "{n} % 2, {n} % 3, {n} % 5, {n}"),
    "one is not ordered": ("a float8, k int", "{n} % 3, {n}"),
}


SHOWN = {
    "inet": "select format('%s', k) as k, v from t",
    "padded": "select format('%s', k) as k, v from t",
    "before Christ": r"select regexp_replace(k::text, '(\S+) (\S+) BC', '\1 (BC) \2') as k, v from t",
    "one is not ordered": "select a || '.0' as a, k, v from t",
}
"""Where DuckDB writes a value in another way."""


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_many_types(pair: Pair, name: str) -> None:
    declared, values = KEYS[name]
    query = SHOWN.get(name, "select * from t")
    columns = ", ".join(part.split()[0] for part in declared.split(", "))
    chosen = values.replace("{n}", "g")
    fill = f"insert into t select {chosen}, g from generate_series({{}}, {{}}) g"
    pair.database.execute(f"create table t ({declared}, v int, primary key ({columns}))")
    pair.database.execute(fill.format(1, 380))
    pair.sync(T)
    assert len(ranges(pair).rows) > 8
    pair.database.execute("update t set v = -v where v in (17, 251)")
    report = synced(pair, T, query)
    assert (report.counts.updated, report.counts.deleted) == (2, 0)
    assert report.rows_read < 200
    pair.database.execute("delete from t where v % 37 = 3;" + fill.format(381, 400))
    report = pair.sync(T)
    assert (report.counts.inserted, report.counts.deleted) == (20, 11)
    assert pair.stored(T) == pair.source(query)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 60), st.integers(1, 12)),
        st.tuples(st.just("update"), st.integers(0, 60), st.integers(1, 6)),
        st.tuples(st.just("delete"), st.integers(0, 60), st.integers(1, 20)),
        st.tuples(st.just("move"), st.integers(0, 60), st.integers(1, 60)),
        st.tuples(st.just("append"), st.integers(0, 60), st.integers(1, 30)),
        st.tuples(st.just("sync"), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=8,
)

STATEMENTS = {
    "insert": "insert into t select {key}, g % 3, 'i' from generate_series({a}, {a} + {b}) g"
    " on conflict do nothing",
    "update": "update t set v = v + 1, w = nullif(w, 'i') where n between {a} and {a} + {b}",
    "delete": "delete from t where n between {a} and {a} + {b}",
    "move": "update t set {moved} where n = {a} and not exists (select from t where n = 1000 + {a})",
    "append": "insert into t select {key}, 1, null from generate_series((select coalesce(max(n), 0) + 1"
    " from t), (select coalesce(max(n), 0) + {b} from t)) g on conflict do nothing",
}
SHAPES = {
    "int": ("n int primary key, v int, w text", "g", "n = 1000 + n"),
    "text and int": (
        "a text, n int, v int, w text, primary key (a, n)",
        "chr(97 + g % 2), g",
        "a = a || 'ö', n = 1000 + n",
    ),
    "uuid": (
        "u uuid primary key, n int, v int, w text",
        "md5(g::text)::uuid, g",
        "u = md5(u::text)::uuid, n = 1000 + n",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=actions)
def test_any_changes_arrive(pair: Pair, shape: str, script: list[tuple[str, int, int]]) -> None:
    columns, key, moved = SHAPES[shape]
    table = f"t{uuid.uuid4().hex[:8]}"
    which = differing(table)
    with pair.database.connect() as connection:
        connection.execute(f"create table {table} ({columns})")
        for verb, a, b in [*script, ("sync", 0, 0)]:
            if verb == "sync":
                synced(pair, which, f"select * from {table}")
                continue
            text = STATEMENTS[verb].format(key=key, moved=moved, a=a, b=b)
            connection.execute(text.replace(" t ", f" {table} ").replace(" t)", f" {table})"))


def test_writers_at_work(pair: Pair) -> None:
    """Each load stores one moment, whatever is written while it runs; an uncommitted row is not in it."""
    numbers(pair, 200)
    pair.sync(T)
    with pair.database.connect(autocommit=False) as late:
        late.execute("update t set v = 'late' where id = 20")
        for round_ in range(3):
            pair.database.execute(f"update t set n = n + 1 where id % 7 = {round_}")
            report = pair.sync(T)
            assert pair.stored(T) == pair.source("select * from t")
            assert report.counts.updated in (28, 29)
        late.commit()
    assert synced(pair).counts.updated == 1


def test_each_load_is_one_moment_while_writers_write(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, v int); insert into t select g, 100 from generate_series(1, 200) g"
    )
    transfer = (
        "with pick as (select 1 + (random() * 199)::int as a, 1 + (random() * 199)::int as b)"
        " update t set v = v + case id when a then 1 else -1 end"
        " from pick where id in (a, b) and a <> b"
    )
    with pair.database.connect() as writer, meanwhile(lambda: writer.execute(transfer)):
        for _ in range(4):
            pair.sync(T)
            assert pair.stored(T, "count(*), sum(v)") == [(200, 20000)]
    synced(pair)


def test_a_rewrite_under_the_snapshot_is_not_an_empty_table(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers(pair)
    pair.sync(T)
    before, copy = pair.stored(T), Session.copy

    def rewrite_first(session: Session, query: SelectQuery) -> Any:
        monkeypatch.undo()
        pair.database.execute("begin; truncate t; insert into t values (1, 'only', 1); commit")
        return copy(session, query)

    monkeypatch.setattr(Session, "copy", rewrite_first)
    with pytest.raises(SourceBusy, match="truncated or rewritten"):
        pair.sync(T)
    assert pair.stored(T) == before
    assert synced(pair).counts.total == 1


def test_a_scan_that_takes_too_long_is_tried_again_later(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    pair.database.execute(
        "create function slow(int) returns int language sql as 'select $1 from pg_sleep(0.02)';"
        " create view w as select id, slow(id) as v from t"
    )
    with (
        pytest.raises(SourceBusy),
        pair.server(statement_timeout=1).session(pair.database.name) as session,
    ):
        table = describe(session, TableId("public", "w"))
        which = differing("w", key=("id",))
        with snapshot_diff.read(Request(session, which, table)):
            pass


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("alter table t add column more int default 5", "columns or their types"),
        ("alter table t drop column n", "columns or their types"),
        ("alter table t alter n type numeric(12,3)", "columns or their types"),
        ("alter table t drop constraint t_pkey, add primary key (v)", r"the key was \(id\)"),
    ],
)
def test_what_cannot_be_compared_is_read_again(pair: Pair, change: str, why: str) -> None:
    numbers(pair)
    pair.sync(T)
    pair.database.execute(change)
    report = synced(pair)
    assert report.rows_read == 400
    assert report.phase == "snapshot"
    assert re.search(f"all rows are read again: .*{why}", report.notes[0])


def test_another_row_filter(pair: Pair) -> None:
    numbers(pair)
    synced(pair, differing("t", where="id % 2 = 0"), "select * from t where id % 2 = 0")
    report = synced(
        pair, differing("t", where="id % 2 = 1 -- odd"), "select * from t where id % 2 = 1"
    )
    assert "the row filter is another" in report.notes[0]
    with pytest.raises(QueryRefused):
        pair.sync(differing("t", where="id = 1) or (true"))


def test_chosen_columns(pair: Pair) -> None:
    numbers(pair)
    which = differing("t", exclude_columns=("v",))
    synced(pair, which, "select id, n from t")
    pair.database.execute("update t set v = 'unseen'")
    assert pair.sync(which).rows_read == 0


def test_another_method_before(pair: Pair) -> None:
    numbers(pair)
    pair.sync(full("t"))
    assert "loaded by full_table before" in synced(pair).notes[0]
    report = pair.sync(keyed("t", "id"))
    assert "loaded by snapshot_diff before" in report.notes[0]


def test_reset_reads_everything(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    assert pair.sync(T, reset=True).rows_read == 400


def test_views_and_partitions(pair: Pair) -> None:
    numbers(pair)
    pair.database.execute(
        "create view w as select id, v || '!' as v, n from t;"
        " create table p (id int primary key, v text) partition by range (id);"
        " create table p1 partition of p for values from (0) to (200);"
        " create table p2 partition of p for values from (200) to (1000);"
        " insert into p select id, v from t; create materialized view m as select * from t"
    )
    view, matter = differing("w", key=("id",)), differing("m", key=("id",))
    for which, name in ((view, "w"), (differing("p"), "p"), (matter, "m")):
        synced(pair, which, f"select * from {name}")
        assert len(ranges(pair, which).rows) > 20
    pair.database.execute(
        "update t set v = 'x' where id = 5; alter table p detach partition p1;"
        " refresh materialized view m"
    )
    assert synced(pair, view, "select * from w").counts.updated == 1
    assert synced(pair, matter, "select * from m").counts.updated == 1
    assert synced(pair, differing("p"), "select * from p").counts.deleted == 199


def test_a_declared_key_that_is_not_unique(pair: Pair) -> None:
    pair.database.execute("create table t (a int not null, b int); insert into t values (1, 1)")
    which = differing("t", key=("a",))
    pair.sync(which)
    pair.database.execute("insert into t values (1, 2)")
    with pytest.raises(KeyNotUnique):
        pair.sync(which)
    with pytest.raises(KeyNotUnique):
        pair.sync(which, reset=True)


def test_a_key_that_is_null(pair: Pair) -> None:
    pair.database.execute("create table t (a int unique, b int); insert into t values (1, 1)")
    which = differing("t", key=("a",))
    pair.sync(which)
    pair.database.execute("insert into t values (null, 2)")
    with pytest.raises(MethodUnavailable, match="NULL in 1 rows"):
        pair.sync(which)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("(a int)", "no primary key"),
        ("(a float8 primary key)", "cannot be cut into ranges"),
        ("(a bytea, b int[], primary key (a, b))", "cannot be cut into ranges"),
    ],
)
def test_tables_without_a_usable_key(pair: Pair, declared: str, message: str) -> None:
    pair.database.execute(f"create table t {declared}")
    with pytest.raises(MethodUnavailable, match=message):
        pair.sync(T)


def test_no_windows(pair: Pair) -> None:
    numbers(pair)
    with pytest.raises(ConfigError):
        pair.sync(T, window=("2024-01-01", "2024-01-02"))


def test_odd_names(pair: Pair) -> None:
    pair.database.execute(
        'create table "T %s {0}" ("a\'b" text, "select" int, "%(x)s \\" text,'
        ' primary key ("a\'b", "select"));'
        " insert into \"T %s {0}\" select 'it''s \\' || g, g, null from generate_series(1, 99) g"
    )
    which = differing("T %s {0}")
    pair.sync(which)
    pair.database.execute('update "T %s {0}" set "%(x)s \\" = \'\' where "select" = 5')
    assert pair.sync(which).counts.updated == 1
    assert len(ranges(pair, which).rows) > 5


def test_rejected_rows(pair: Pair) -> None:
    numbers(pair)
    pair.sync(T)
    pair.database.execute("update t set n = 'NaN' where id = 5")
    report = pair.sync(T, max_rejected=1)
    assert report.counts == LoadCounts(0, 0, 1, 1, 399)
    assert pair.sync(T).rows_read == 0
    pair.database.execute("update t set n = 5 where id in (5, 6)")
    assert pair.sync(T).counts == LoadCounts(1, 1, 0, 0, 400)
    assert pair.stored(T) == pair.source("select * from t")


@pytest.fixture
def latin(pair: Pair) -> Iterator[Pair]:
    """The same in a database of another encoding."""
    admin, name = pair.database, f"latin_{uuid.uuid4().hex[:8]}"
    admin.execute(
        f"create database {name} template template0 encoding 'WIN1252' lc_collate 'C' lc_ctype 'C'"
    )
    yield Pair(Database(name, admin.host, admin.port, admin.user), pair.path)
    admin.execute(f"drop database {name} with (force)")


def test_texts_in_another_encoding(latin: Pair) -> None:
    latin.database.execute(
        "create table t (k text primary key, v int);"
        " insert into t select chr(g % 60 + 40) || '€' || chr(192 + g % 60) || g, g"
        " from generate_series(1, 300) g"
    )
    synced(latin)
    assert len(ranges(latin).rows) > 10
    latin.database.execute("delete from t where v % 50 = 7; update t set v = -v where v < 9")
    synced(latin)
