"""A row filter holds in the log as in the snapshot, whoever applies it: the publication, or we."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_ingest.config.method import Shape
from pg_ingest.errors import QueryRefused, SlotUnusable, SourceBusy
from pg_ingest.methods import log_based
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

BIG = "z" * 9000


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute("create table o (id int primary key, status text, n numeric(8,2), big text)")
    database.execute("alter table o alter big set storage external")
    database.execute(
        "insert into o select g, case when g % 2 = 0 then 'open' else 'done' end, g, repeat('z', 9000)"
        " from generate_series(1, 6) g"
    )
    with following(database, tmp_path) as found:
        yield found


OPEN = "status = 'open'"
SMALL = "id < 5"


def test_a_row_that_crosses_the_edge_comes_and_goes(shop: Following) -> None:
    table = logged("o", where=OPEN)
    shop.sync(table)
    assert shop.stored("o") == shop.source("o", OPEN)
    shop.database.execute("update o set status = 'done', big = 'b' where id = 2")
    shop.database.execute("update o set status = 'open', big = 'c' where id = 1")
    shop.database.execute("update o set n = n + 1")
    shop.database.execute("update o set id = id + 10 where id in (3, 4)")
    shop.database.execute("insert into o values (20, 'open', 1, 'x'), (21, null, 1, 'x')")
    shop.database.execute("delete from o where id in (5, 6)")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert report.phase == "changes"
    assert (report.counts.inserted, report.counts.updated, report.counts.deleted) == (3, 0, 3)
    assert shop.stored("o") == shop.source("o", OPEN)
    assert shop.sync(table)["o"].report is None


def test_the_publication_filters_where_it_may(shop: Following) -> None:
    shop.log["narrow"] = True
    table = logged("o", where=SMALL)
    shop.sync(table)
    assert published(shop) == [("o", ["id", "status", "n", "big"], "(id < 5)")]
    shop.database.execute("insert into o values (30, 'open', 1, 'x'), (0, 'open', 1, 'x')")
    shop.database.execute("update o set id = 40 where id = 1")
    shop.database.execute("delete from o where id = 4")
    capture = shop.capture(table)
    assert capture.captured.rows == 3
    assert capture.filtered == {table.table}
    shop.apply(capture, table)
    assert shop.stored("o") == shop.source("o", SMALL)


def test_a_row_that_comes_inside_without_all_its_values_is_read(shop: Following) -> None:
    table = logged("o", where=OPEN)
    shop.sync(table)
    shop.database.execute("update o set status = 'open' where id = 1")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert "without all its values" in report.notes[0]
    assert "REPLICA IDENTITY FULL" in report.notes[0]
    assert shop.stored("o") == shop.source("o", OPEN)
    assert shop.sync(table)["o"].report is None


def test_a_second_reason_to_read_it_waits_for_the_next_sync(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = logged("o", where=OPEN)
    shop.sync(table)
    snapshot, left = log_based.snapshot, [5]

    @contextmanager
    def meanwhile(*arguments: Any, **options: Any) -> Iterator[Any]:
        with snapshot(*arguments, **options) as reading:
            yield reading
            if left:
                shop.database.execute(f"update o set status = 'open' where id = {left.pop()}")
                shop.flush()

    monkeypatch.setattr(log_based, "snapshot", meanwhile)
    shop.database.execute("update o set status = 'open' where id = 1")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert [note.split(": ")[0] for note in report.notes[:2]] == [
        "read anew",
        "to be read anew by the next sync too",
    ]
    assert shop.rows("select id from shop.o") == [(1,), (2,), (4,), (6,)]
    shop.sync(table)
    assert shop.stored("o") == shop.source("o", OPEN)


def test_full_identity_needs_no_reading(shop: Following) -> None:
    shop.database.execute("alter table o replica identity full")
    table = logged("o", where="status = 'open' and big like 'z%'")
    shop.sync(table)
    shop.database.execute("update o set status = 'open' where id = 1")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert report.phase == "changes"
    assert shop.stored("o") == shop.source("o", OPEN)


def test_a_row_that_comes_back_is_not_filled_from_its_marked_past(shop: Following) -> None:
    table = logged("o", where=OPEN, shape=Shape.SOFT_DELETE)
    shop.sync(table)
    shop.database.execute("update o set status = 'done', big = repeat('y', 9000) where id = 2")
    shop.sync(table)
    shop.database.execute("update o set status = 'open' where id = 2")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert "without all its values" in report.notes[0]
    assert shop.stored("o", "_pgi_deleted_at is null") == shop.source("o", OPEN)


def test_another_type_of_a_filtered_column_means_reading_anew(shop: Following) -> None:
    """Which rows pass may have changed without a change of any row: bpchar knows no blanks at the end."""
    table = logged("o", where=OPEN)
    shop.sync(table)
    shop.database.execute("insert into o values (7, 'open ', 1, 'x'), (8, 'new', 1, 'x')")
    shop.sync(table)
    shop.database.execute("alter table o alter status type bpchar")
    shop.database.execute("update o set big = 'y' where id = 8")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert report.notes[0].startswith("read anew: status is ")
    assert shop.rows("select id from shop.o") == [(2,), (4,), (6,), (7,)]


def test_a_column_of_the_filter_that_gets_another_name(shop: Following) -> None:
    table = logged("o", where="n < 4")
    shop.sync(table)
    shop.database.execute("update o set n = 9 where id = 1")
    shop.database.execute("alter table o rename n to amount")
    shop.database.execute("update o set amount = 1 where id = 6")
    error = shop.apply(shop.capture(table), table)["o"].error
    assert isinstance(error, QueryRefused)
    assert 'column "n" does not exist' in error.detail
    table = logged("o", where="amount < 4")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert report.phase == "snapshot"
    assert shop.stored("o") == shop.source("o", "amount < 4")


def test_a_filter_that_fails_for_a_row_that_is_gone_again(shop: Following) -> None:
    table = logged("o", where="10 / n > 2")
    shop.sync(table)
    shop.database.execute("update o set n = 0 where id = 2")
    capture = shop.capture(table)
    shop.database.execute("update o set n = 1 where id = 2")
    report = shop.apply(capture, table)["o"].report
    assert report is not None
    assert report.notes[0].startswith(
        "read anew: the row filter fails for a row of the log: sqlstate"
    )
    assert shop.stored("o") == shop.source("o", "10 / n > 2")
    shop.database.execute("update o set n = 0 where id = 2")
    error = shop.apply(shop.capture(table), table)["o"].error
    assert isinstance(error, QueryRefused)


def test_a_value_that_the_filter_needs_and_the_log_lacks(shop: Following) -> None:
    table = logged("o", where="big like 'z%'")
    shop.sync(table)
    shop.database.execute("update o set big = 'small' where id = 2")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert (report.phase, report.counts.deleted) == ("changes", 1)
    shop.database.execute("update o set n = 7 where id = 4")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert "the row filter needs big" in report.notes[0]
    assert shop.stored("o") == shop.source("o", "big like 'z%'")


def test_the_servers_filter_brings_a_row_without_all_its_values(shop: Following) -> None:
    shop.log["narrow"] = True
    table = logged("o", where=SMALL)
    shop.sync(table)
    shop.database.execute("update o set id = -1 where id = 6")
    report = shop.sync(table)["o"].report
    assert report is not None
    assert "without all its values" in report.notes[0]
    assert shop.stored("o") == shop.source("o", SMALL)


def test_another_filter_means_reading_anew(shop: Following) -> None:
    shop.log["narrow"] = True
    first, second = logged("o", where=SMALL), logged("o", where="id > 2")
    shop.sync(first)
    since = shop.capture(first).since
    assert shop.capture(first).since == since
    shop.database.execute("update o set n = 8")
    report = shop.sync(second)["o"].report
    assert report is not None
    assert report.phase == "snapshot"
    assert published(shop)[0][2] == "(id > 2)"
    assert shop.stored("o") == shop.source("o", "id > 2")
    assert shop.capture(second).since[second.table] > since[second.table]
    shop.sync(logged("o"))
    assert published(shop)[0][2] is None
    shop.check(logged("o"))


def test_a_narrow_publication_becomes_whole_again(shop: Following) -> None:
    table = logged("o", where=SMALL, exclude_columns=("n",))
    shop.log["narrow"] = True
    shop.sync(table)
    assert published(shop) == [("o", ["id", "status", "big"], "(id < 5)")]
    del shop.log["narrow"]
    with shop.database.connect(autocommit=False) as writer:
        writer.execute("insert into o values (0, 'open', 1, 'x'), (20, 'open', 1, 'x')")
        busy = shop.capture(table)
        assert isinstance(busy.failures[table.table], SourceBusy)
        assert published(shop) == [("o", ["id", "status", "n", "big"], None)]
        shop.database.execute("update o set status = 'y', big = 'y' where id in (1, 6)")
    shop.database.execute("update o set id = -3 where id = 20")
    shop.sync(table)
    assert shop.rows("select id, status from shop.o") == shop.database.rows(
        "select id, status from o where id < 5 order by id"
    )


def test_a_publication_stays_whole_unless_asked_otherwise(shop: Following) -> None:
    """What an administrator may do to a published table, and to its writers, he still may."""
    table = logged("o", where=SMALL, exclude_columns=("big",))
    shop.sync(table)
    assert published(shop) == [("o", ["id", "status", "n", "big"], None)]
    shop.database.execute("alter table o replica identity full")
    shop.database.execute("update o set status = 'x'")
    shop.database.execute("alter table o drop column big")
    shop.database.execute("alter table o alter id type bigint")
    shop.database.execute("update o set id = 9 where id = 1")
    shop.database.execute("delete from o where id = 2")
    shop.sync(table)
    assert shop.stored("o") == shop.source("o", SMALL)


REFUSED = {
    "id in (select 1)": "a subquery",
    "exists (table public.o)": "a subquery",
    "n < now()::date - date '2020-01-01'": "the function now is not immutable",
    "random() < 0.5": "the function random is not immutable",
    "public.moody(id)": "the function moody is not immutable",
    "current_user = 'me'": "current_user changes",
    "day > 'yesterday'": "'yesterday' is another date or time each time",
    "o.id > 1": "missing FROM-clause",
    "o is not null": 'column "o" does not exist',
    "ctid is not null": 'column "ctid" does not exist',
    "double > 4": 'column "double" does not exist',
    "secret = 'x'": 'column "secret" does not exist',
    "id > 1) or (true": "syntax error",
    "nothing > 1": 'column "nothing" does not exist',
}


def test_filters_that_cannot_hold_in_the_log(shop: Following) -> None:
    shop.database.execute(
        "create function moody(int) returns bool stable language sql as 'select true'"
    )
    shop.database.execute("alter table o add secret text, add day date")
    shop.database.execute("alter table o add double int generated always as (id * 2) stored")
    shop.database.execute("create table other (id int primary key)")
    other = logged("other")
    for where, told in REFUSED.items():
        table = logged("o", where=where, exclude_columns=("secret",))
        capture = shop.capture(table, other)
        error = capture.failures[table.table]
        assert isinstance(error, QueryRefused), where
        assert told in error.detail, (where, error.detail)
        assert set(capture.since) == {other.table}
    texts = logged(
        "o", where="status <> 'yesterday' and lower(status) in ('open', 'now') and n < 5"
    )
    shop.sync(texts, other)
    assert shop.stored("o") == [row[:6] for row in shop.source("o", "status = 'open' and n < 5")]


def test_somebody_elses_filter_is_honoured_or_refused(shop: Following) -> None:
    shop.database.execute("create publication followed for table o where (id > 3)")
    error = shop.capture(logged("o", where="id > 4")).failures[TableId("public", "o")]
    assert isinstance(error, SlotUnusable)
    assert "the row filter (id > 3)" in error.detail
    assert "`where`" in error.hint
    table = logged("o", where="id>3 -- as published")
    shop.sync(table)
    shop.database.execute("update o set id = -2, big = 'b' where id = 5")
    shop.database.execute("update o set id = 9, big = 'b' where id = 1")
    shop.database.execute("insert into o values (10, 'new', 1, 'x'), (0, 'new', 1, 'x')")
    capture = shop.capture(table)
    assert capture.captured.rows == 3
    assert shop.apply(capture, table)["o"].error is None
    assert shop.stored("o") == shop.source("o", "id > 3")
    shop.database.execute("alter publication followed set table o where (id > 4)")
    assert "(id > 4)" in shop.capture(table).failures[table.table].detail
    shop.database.execute("alter publication followed set table o where (id > 3)")
    assert shop.capture(table).since[table.table] > capture.since[table.table]


def test_writes_that_our_filter_would_break_are_possible_again(shop: Following) -> None:
    shop.log["narrow"] = True
    table = logged("o", where=SMALL)
    shop.sync(table)
    shop.database.execute("alter table o add code int not null default 1")
    shop.database.execute("update o set code = id")
    shop.database.execute("create unique index code_is_unique on o (code)")
    shop.database.execute("alter table o replica identity using index code_is_unique")
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        shop.database.execute("delete from o where id = 1")
    table = logged("o", where=SMALL, key=("code",))
    shop.sync(table)
    assert published(shop)[0][2] is None
    shop.database.execute("delete from o where id = 1")
    shop.database.execute("update o set status = 'x', big = 'b' where id = 2")
    shop.sync(table)
    assert shop.stored("o") == shop.source("o", SMALL)


def published(shop: Following) -> list[Any]:
    return shop.database.rows(
        "select tablename, attnames, rowfilter from pg_publication_tables where pubname = 'followed'"
    )
