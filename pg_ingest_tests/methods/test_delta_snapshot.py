"""Changed rows, and the rows that are gone, by comparing keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.bookmark import DeltaSnapshotBookmark, XminBookmark, dump, load
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.errors import DestinationBusy, KeyNotUnique
from pg_ingest.loading.replicate import replicate
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta

pytestmark = pytest.mark.usefixtures("flushed_at_once")
DELTA = delta("t")
FILLED = (
    "create table t (id int primary key, v text);"
    " insert into t select g, 'a' from generate_series(1, 100) g"
)


def equal(pair: Pair) -> bool:
    return pair.stored(DELTA) == pair.source("select * from t")


def test_deletes_are_found(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(DELTA)
    pair.database.execute(
        "delete from t where id > 90; update t set v = 'b' where id = 1;"
        " update t set id = 500 where id = 2; insert into t values (200, null)"
    )
    report = pair.sync(DELTA)
    counts = report.counts
    assert (counts.inserted, counts.updated, counts.deleted, counts.total) == (2, 1, 11, 91)
    assert report.rows_read == 91
    assert equal(pair)
    pair.database.execute("delete from t")
    assert pair.sync(DELTA).counts.deleted == 91
    assert equal(pair)


def test_keys_travel_only_where_a_row_may_be_gone(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(DELTA)
    assert pair.sync(DELTA).rows_read == 0
    pair.database.execute("insert into t values (200, 'n'), (201, 'n')")
    assert pair.sync(DELTA).rows_read == 2
    pair.database.execute("update t set v = 'b' where id = 1")
    assert pair.sync(DELTA).rows_read == 102
    pair.database.execute("delete from t where id = 1; insert into t values (1, 'c'), (2000, 'd')")
    assert pair.sync(DELTA).rows_read == 103
    assert equal(pair)
    bookmark = pair.bookmark(DELTA)
    assert isinstance(bookmark, DeltaSnapshotBookmark)
    assert bookmark.rows == 103
    assert load(dump(bookmark)) == bookmark


def test_a_row_that_was_seen_above_the_position_and_deleted(pair: Pair) -> None:
    """What is read again cannot be counted on: the number of unchanged rows alone would not show it."""
    pair.database.execute(FILLED)
    with pair.database.connect() as open_ended:
        open_ended.execute("begin; insert into t values (300, 'late')")
        pair.database.execute("insert into t values (200, 'n')")
        pair.sync(DELTA)
        pair.database.execute("delete from t where id = 200")
        assert pair.sync(DELTA).counts.deleted == 1
        open_ended.execute("rollback")
    assert equal(pair)


def test_rows_that_do_not_pass_the_filter_any_more(pair: Pair) -> None:
    pair.database.execute(FILLED)
    some = delta("t", where="v = 'a'")
    pair.sync(some)
    pair.database.execute("update t set v = 'b' where id <= 10; delete from t where id = 11")
    assert pair.sync(some).counts.deleted == 11
    assert pair.stored(some) == pair.source("select * from t where v = 'a'")


def test_without_deletes_it_is_xmin(pair: Pair) -> None:
    pair.database.execute(FILLED)
    kept = delta("t", replicate_deletes=False)
    pair.sync(kept)
    pair.database.execute("delete from t where id = 1; update t set v = 'b' where id = 2")
    report = pair.sync(kept)
    assert (report.rows_read, report.counts.deleted) == (1, 0)
    assert pair.sync(DELTA).counts.deleted == 1
    assert equal(pair)


def test_to_xmin_and_back_without_a_load(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(by_xmin("t"))
    pair.database.execute("delete from t where id = 1")
    report = pair.sync(DELTA)
    assert (report.phase, report.counts.deleted) == ("incremental", 1)
    pair.database.execute("delete from t where id = 2")
    assert pair.sync(by_xmin("t")).rows_read == 0
    assert type(pair.bookmark(DELTA)) is XminBookmark
    assert pair.sync(DELTA).counts.deleted == 1


def test_a_declared_key_with_nulls(pair: Pair) -> None:
    """No primary key; NULLs in a key are equal."""
    pair.database.execute(
        "create table t (a int, b text, v float8);"
        " insert into t values (1, null, 1.5), (1, 'x', 'NaN'), (null, null, null), (2, '', 0)"
    )
    keyed = delta("t", key=("a", "b"))
    pair.sync(keyed)
    pair.database.execute(
        "delete from t where a = 1 and b is null; update t set v = 7 where a is null"
    )
    report = pair.sync(keyed)
    assert (report.counts.updated, report.counts.deleted) == (1, 1)
    assert len(pair.stored(keyed)) == 3


def test_a_declared_key_that_is_not_unique(pair: Pair) -> None:
    """Also where only one of the two rows was written since."""
    pair.database.execute("create table t (a int, v int); insert into t values (1, 1), (2, 1)")
    keyed = delta("t", key=("a",))
    pair.sync(keyed)
    pair.database.execute("insert into t values (1, 2); delete from t where a = 2")
    with pytest.raises(KeyNotUnique):
        pair.sync(keyed)


def test_partitions_that_go(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text) partition by range (id);"
        " create table t1 partition of t for values from (0) to (100);"
        " create table t2 partition of t for values from (100) to (200);"
        " create table t3 partition of t for values from (200) to (300);"
        " insert into t select g, 'a' from generate_series(1, 299) g"
    )
    pair.sync(DELTA)
    pair.database.execute(
        "alter table t detach partition t2; truncate t3; insert into t values (250, 'n')"
    )
    report = pair.sync(DELTA)
    assert (report.phase, report.counts.deleted) == ("incremental", 199)
    assert equal(pair)
    pair.database.execute("alter table t attach partition t2 for values from (100) to (200)")
    assert pair.sync(DELTA).counts.inserted == 100
    assert equal(pair)


def test_a_truncated_table(pair: Pair) -> None:
    pair.database.execute(FILLED)
    pair.sync(DELTA)
    pair.database.execute("truncate t")
    assert pair.sync(DELTA).counts.deleted == 100
    assert equal(pair)


def test_every_type_can_stand_beside_a_listed_key(pair: Pair) -> None:
    """A row of which only the key travels has NULL in columns of all types, NOT NULL ones as well."""
    pair.database.execute(
        "create type mood as enum ('a', 'b'); create table t (id uuid primary key, i int not null,"
        " n numeric(10, 2) not null, huge numeric not null, j jsonb not null, a int[] not null,"
        " r int4range not null, m mood not null, t timestamptz not null, d interval not null,"
        " b bytea not null, g point not null);"
        " insert into t select gen_random_uuid(), 1, 1.5, 1e40, '{}', '{1,2}', '[1,2)', 'a', now(),"
        " '1 day', 'x', '(1,2)' from generate_series(1, 5)"
    )
    pair.sync(DELTA)
    pair.database.execute(
        "delete from t where id = (select id from t limit 1); update t set i = 2"
        " where id = (select id from t limit 1)"
    )
    report = pair.sync(DELTA)
    assert (report.counts.updated, report.counts.deleted, report.counts.total) == (1, 1, 4)
    assert pair.stored(DELTA, "id::varchar, i") == sorted(
        (one, int(i)) for one, i in pair.source("select id, i from t")
    )


GROUPED = delta("t", update_key=("g", "h"))
KEYLESS = (
    "create table t (g int, h text, v int); insert into t values"
    " (1, 'a', 1), (1, 'a', 1), (1, 'a', 2), (2, 'b', 1), (null, 'b', 1), (null, 'b', 1)"
)


def test_groups_of_rows_where_nothing_is_unique(pair: Pair) -> None:
    """Only groups with a new row travel; those with NULL in the key always do."""
    pair.database.execute(KEYLESS)
    pair.sync(GROUPED)
    assert pair.sync(GROUPED).rows_read == 0
    pair.database.execute("insert into t values (1, 'a', 1), (3, 'c', 1), (3, 'c', 1)")
    report = pair.sync(GROUPED)
    assert (report.phase, report.rows_read) == ("incremental", 8)
    assert (report.counts.inserted, report.counts.deleted) == (6, 3)
    assert equal(pair)
    pair.database.execute("insert into t values (null, 'b', 1), (null, null, 7)")
    assert pair.sync(GROUPED).rows_read == 4
    assert equal(pair)


@pytest.mark.parametrize(
    "statement",
    [
        "delete from t where ctid = (select min(ctid) from t)",
        "update t set v = 9 where g = 1",
        "update t set g = 2, h = 'b' where v = 2",
        "delete from t where g is null",
    ],
)
def test_no_key_tells_which_row_of_a_group_is_gone(pair: Pair, statement: str) -> None:
    pair.database.execute(KEYLESS)
    pair.sync(GROUPED)
    pair.database.execute(statement)
    report = pair.sync(GROUPED)
    assert "no key tells which" in report.notes[0]
    assert equal(pair)
    assert pair.sync(GROUPED).rows_read == 0


def test_groups_without_deletes(pair: Pair) -> None:
    """A changed row is right, as long as its key is the same; others of its group that are gone go with it."""
    pair.database.execute(KEYLESS)
    kept = delta("t", update_key=("g",), replicate_deletes=False)
    pair.sync(kept)
    pair.database.execute("update t set v = 9 where g = 1 and v = 2; delete from t where g = 2")
    assert pair.sync(kept).phase == "incremental"
    assert len(pair.stored(kept)) == 6
    assert ("1", "a", "9") in pair.stored(kept)


def test_a_key_instead_of_groups_is_another_bookmark(pair: Pair) -> None:
    pair.database.execute("create table t (id int primary key, v int); insert into t values (1, 1)")
    pair.sync(delta("t", update_key=("id",)))
    assert "all rows are read again" in pair.sync(DELTA).notes[0]


def test_a_row_that_cannot_be_stored_any_more(pair: Pair) -> None:
    """Its old version goes, as by the log: the record below `_pgi.rejected` says why it is not there."""
    pair.database.execute(
        "create table t (id int primary key, n numeric(9, 2));"
        " insert into t select g from generate_series(1, 9) g"
    )
    pair.sync(DELTA)
    pair.database.execute("update t set n = 'NaN' where id = 1; delete from t where id = 2")
    counts = pair.sync(DELTA, max_rejected=5).counts
    assert (counts.rejected, counts.deleted, counts.total) == (1, 2, 7)
    pair.database.execute("delete from t where id = 3")
    counts = pair.sync(DELTA, max_rejected=0).counts
    assert (counts.rejected, counts.deleted, counts.total) == (0, 1, 6)
    pair.database.execute("update t set n = 1.5 where id = 1")
    assert pair.sync(DELTA).counts.inserted == 1
    assert equal(pair)


class Overtaken(DuckDbDestination):
    """Another process loads the same table between our snapshot and our stage."""

    def __init__(self, path: Path, first: Callable[[], object]) -> None:
        super().__init__(path)
        self._first = first

    def stage(self, *arguments: Any, **options: Any) -> Any:
        self._first()
        return super().stage(*arguments, **options)


def test_two_processes_at_once(pair: Pair) -> None:
    """The slower one goes on from a bookmark that is gone: it would bring deleted rows back for good."""
    pair.database.execute(FILLED)
    pair.sync(DELTA)
    pair.database.execute("insert into t values (200, 'n')")

    def other() -> None:
        pair.database.execute("delete from t where id = 200")
        pair.sync(DELTA)

    overtaken = Overtaken(pair.path, other)
    with pytest.raises(DestinationBusy, match="at the same time"):
        replicate(pair.server(), overtaken, DELTA, pair.database.name, max_rejected=0)
    assert equal(pair)
    pair.sync(DELTA)
    assert equal(pair)
