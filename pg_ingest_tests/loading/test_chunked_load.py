"""The first load of a large table in chunks: whatever happens meanwhile, the result is exact."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.batch import LoadReport
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.errors import SourceUnreachable
from pg_ingest.following.retain_log import retain_log
from pg_ingest.loading import chunked_load
from pg_ingest.methods import chunks, log_steps
from pg_ingest.progress import Progress
from pg_ingest_tests.between_chunks import breaks_off, chunks_stored, during, writes
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

T = logged("t")
CHUNKS = 7
ROWS = 1000


@pytest.fixture
def shop(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Following]:
    """Chunks of 150 rows, steps of the log of 5; progress is told with every batch."""
    monkeypatch.setattr(log_steps, "STEP_ROWS", 5)
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)
    database.execute(f"alter database {database.name} set synchronous_commit = on")
    limits = {"lock_timeout": 5, "chunk_rows": 150, "load_threads": 1}
    with following(database, tmp_path, limits=limits) as found:
        yield found


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pg_ingest.loading.chunked_load")


def made(shop: Following, rows: int = ROWS, more: str = "") -> None:
    """`big` is stored out of line, so updates that leave it alone do not log it."""
    shop.database.execute(
        "drop table if exists t;"
        f" create table t (id int primary key, v text, w int default 0, big text {more});"
        " alter table t alter big set storage external;"
        " insert into t select g, 'x', 0, repeat(md5(g::text), case when g % 3 = 0 then 99 end)"
        f" from generate_series(1, {rows}) g; analyze t"
    )


def load(shop: Following, *tables: Replication, **options: Any) -> LoadReport:
    report = shop.sync(*(tables or (T,)), **options)["t"].report
    assert report is not None
    return report


def test_a_large_table_comes_in_chunks(shop: Following, caplog: pytest.LogCaptureFixture) -> None:
    shop.limits["load_threads"] = 3
    made(shop)
    report = load(shop)
    assert sorted(chunks_stored(caplog)) == list(range(1, CHUNKS + 1))
    assert (report.phase, report.counts.inserted, report.rows_read) == ("historical", ROWS, ROWS)
    shop.check(T)
    assert shop.destination.chunked_loads() == []
    shop.database.execute("update t set w = 1 where id < 9; delete from t where id > 997")
    report = load(shop)
    assert (report.phase, report.counts.updated, report.counts.deleted) == ("changes", 8, 3)
    shop.check(T)


def test_what_is_written_meanwhile(shop: Following) -> None:
    """Rows of chunks that were read, that are being read, and that will be."""
    made(shop)
    progress = writes(
        shop.database,
        "update t set w = 1 where id in (1, 300, 900)",
        "delete from t where id in (2, 301, 901); insert into t values (-5, 'low'), (5000, 'high')",
        "delete from t where id = 5000; insert into t values (2, 'again', 7, repeat('z', 5000))",
        "update t set v = 'y' where id % 30 = 0",
        "update t set big = 'short' where id in (3, 600, 999)",
        "insert into t values (5000, 'twice', 1, repeat('q', 6000)); update t set w = 9 where id = 5000",
    )
    report = load(shop, progress=progress)
    assert report.phase == "historical"
    shop.check(T)
    assert shop.rows("select count(*), count(distinct id) from shop.t") == [(1000, 1000)]


def test_nobody_sees_rows_of_several_moments(shop: Following) -> None:
    made(shop)
    load(shop)
    shop.database.execute("update t set w = 1 where id % 100 = 0")

    def look() -> None:
        assert shop.rows("select distinct w from shop.t") == [(0,)]
        shop.database.execute("update t set w = w + 1 where id % 100 = 0")

    load(shop, progress=during(*[look] * CHUNKS), reset=[T])
    assert len(shop.rows("select distinct w from shop.t where id % 100 = 0")) == 1
    shop.check(T)


def test_a_value_that_the_log_leaves_out(shop: Following) -> None:
    """The row that has it is gone before its chunk is read, or is another one by then."""
    made(shop)
    progress = writes(
        shop.database,
        "update t set w = 1 where id in (900, 903, 906, 909, 912)",
        "delete from t where id in (900, 903, 909)",
        "insert into t values (903, 'new', 0, repeat('n', 7000))",
        "update t set w = 2 where id in (903, 906)",
    )
    report = load(shop, progress=progress)
    assert report.phase == "historical"
    shop.check(T)


@pytest.mark.parametrize("chunk", [0, 3, 6])
def test_a_key_that_changes_without_its_value(shop: Following, chunk: int) -> None:
    """903 becomes 30 and another row becomes 903, before or after their chunks are read."""
    made(shop)
    moves = (
        "begin; update t set id = 30000 where id = 30; update t set id = 30 where id = 903;"
        " update t set id = 903 where id = 603; commit"
    )
    progress = writes(shop.database, *["select 1"] * chunk, moves)
    report = load(shop, progress=progress)
    assert report.phase == "snapshot"
    assert any("another key" in note for note in report.notes)
    shop.check(T)
    assert shop.destination.chunked_loads() == []


def test_a_key_that_changes_with_all_values(shop: Following) -> None:
    made(shop)
    shop.database.execute("alter table t replica identity full")
    progress = writes(
        shop.database,
        "update t set id = 30000 where id = 30; update t set id = 30 where id = 903",
        "update t set id = 903 where id = 603",
    )
    assert load(shop, logged("t", key=("id",)), progress=progress).phase == "historical"
    shop.check(T)


def interrupted(shop: Following, after: int, *tables: Replication, **options: Any) -> None:
    """A load that breaks off while the chunk after that many is read."""
    with pytest.raises(SourceUnreachable):
        load(shop, *tables, progress=breaks_off(after), **options)


def test_finished_chunks_are_not_read_again(
    shop: Following, caplog: pytest.LogCaptureFixture
) -> None:
    """What was written between the two runs is in the log, and the log is not thrown away meanwhile."""
    made(shop)
    interrupted(shop, 4)
    assert chunks_stored(caplog) == [1, 2, 3, 4]
    for change in (
        "update t set w = 5 where id % 100 = 0",
        "delete from t where id in (4, 996)",
        "insert into t values (4, 'again')",
    ):
        shop.database.execute(change)
        shop.capture(T)
    shop.log["keep"] = "0s"
    assert retain_log(shop.server, shop.destination, shop.folder, shop.database.name, [T]) == ()
    seen: list[Progress] = []
    report = load(shop, progress=lambda _, now: seen.append(now))
    assert chunks_stored(caplog) == [5, 6, 7]
    assert "4 of 7 chunks were stored before" in report.notes
    assert {(now.earlier, now.expected) for now in seen} == {(4 * 143, ROWS)}
    shop.check(T)


def test_a_reset_that_was_interrupted_goes_on(
    shop: Following, caplog: pytest.LogCaptureFixture
) -> None:
    made(shop)
    load(shop)
    shop.database.execute("update t set w = 1 where id < 50")
    interrupted(shop, 5, reset=[T])
    chunks_stored(caplog)
    shop.database.execute("update t set w = 2 where id between 690 and 710")
    assert load(shop).phase == "historical"
    assert chunks_stored(caplog)[0] == 6
    shop.check(T)


@pytest.mark.parametrize("chunk", [0, 4])
def test_rows_taken_away_at_once_begin_it_anew(shop: Following, chunk: int) -> None:
    made(shop)
    interrupted(shop, chunk)
    shop.database.execute(
        "truncate t; insert into t select g, 'y' from generate_series(1, 990) g; analyze t"
    )
    report = load(shop)
    assert any("truncated" in note for note in report.notes)
    assert report.phase == "historical"
    shop.check(T)


def test_other_settings_begin_it_anew(shop: Following) -> None:
    made(shop)
    interrupted(shop, 3)
    report = load(shop, logged("t", exclude_columns=("big",)))
    assert any("settings" in note for note in report.notes)
    assert shop.rows("select count(*) from shop.t") == [(ROWS,)]


def test_the_log_must_have_followed_it_since(shop: Following) -> None:
    """Out of the publication for a while: what was written then is nowhere."""
    made(shop)
    interrupted(shop, 3)
    shop.capture()
    shop.database.execute("update t set w = 8 where id < 9")
    report = load(shop)
    assert any("has followed the table since" in note for note in report.notes)
    shop.check(T)


def test_soft_deletes_begin_with_the_table(shop: Following) -> None:
    soft = logged("t", shape=Shape.SOFT_DELETE)
    made(shop)
    report = load(shop, soft, progress=writes(shop.database, "delete from t where id in (1, 990)"))
    assert report.phase == "historical"
    assert shop.rows("select count(*), count(_pgi_deleted_at) from shop.t") == [(998, 0)]
    shop.database.execute("delete from t where id = 2")
    load(shop, soft)
    assert shop.rows("select id from shop.t where _pgi_deleted_at is not null") == [(2,)]


def test_without_a_key_it_is_one_snapshot(shop: Following) -> None:
    shop.database.execute(
        "create table t (id int, v text); alter table t replica identity full;"
        " insert into t select g % 300, 'x' from generate_series(1, 1000) g; analyze t"
    )
    progress = writes(shop.database, "delete from t where id = 7; insert into t values (8, 'x')")
    report = load(shop, progress=progress)
    assert report.phase == "snapshot"
    assert any("no key tells its rows apart" in note for note in report.notes)
    shop.sync(T)
    shop.check(T)


def test_with_a_row_filter_it_is_one_snapshot(shop: Following) -> None:
    made(shop)
    report = load(shop, logged("t", where="id > 5"))
    assert report.phase == "snapshot"
    assert any("not in chunks: its row filter" in note for note in report.notes)


def test_one_of_several_readers_fails(
    shop: Following, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error comes out, the others stop, and what they have stored counts."""
    made(shop)
    shop.limits["load_threads"] = 3
    real, lock = chunks.wait_until_flushed, threading.Lock()
    calls: list[int] = []

    def broken(*arguments: Any) -> None:
        with lock:
            calls.append(1)
        if len(calls) == 4:
            raise SourceUnreachable("broken by a test")
        real(*arguments)

    monkeypatch.setattr(chunked_load, "wait_until_flushed", broken)
    with pytest.raises(SourceUnreachable):
        load(shop)
    first = chunks_stored(caplog)
    assert not [each for each in threading.enumerate() if each.name == "chunked_load"]
    load(shop)
    assert sorted(first + chunks_stored(caplog)) == list(range(1, CHUNKS + 1))
    shop.check(T)


@given(data=st.data())
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changes(shop: Following, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    """Many small transactions, some of them open while chunks are read, and the log cut into small steps."""
    monkeypatch.setattr(log_steps, "STEP_ROWS", 50)
    chance = random.Random(data.draw(st.integers(0, 1 << 30)))
    made(shop, 200)
    shop.limits["chunk_rows"] = chance.choice([20, 50, 90])
    options = "-c lock_timeout=20ms"
    late = [shop.database.connect(options=options, autocommit=False) for _ in range(2)]

    def write() -> None:
        for _ in range(chance.randint(1, 6)):
            connection = chance.choice(late)
            try:
                connection.execute(_any_statement(chance))
            except psycopg.errors.LockNotAvailable:
                connection.rollback()
            if chance.random() < 0.6:
                connection.commit()

    try:
        load(shop, progress=during(*[write] * 40), reset=[T])
        for connection in late:
            connection.commit()
        shop.sync(T)
        shop.check(T)
    finally:
        for connection in late:
            connection.close()


def _any_statement(chance: random.Random) -> str:
    low = chance.randint(-20, 230)
    rows = f"id between {low} and {low + chance.choice([0, 1, 30])}"
    return chance.choice(
        [
            f"update t set w = w + 1 where {rows}",
            f"update t set big = repeat('b', {chance.choice([5, 4000])}), v = 'b' where {rows}",
            f"delete from t where {rows}",
            f"insert into t select g, 'i', 0, repeat('i', {chance.choice([5, 5000])})"
            f" from generate_series({low}, {low + 9}) g on conflict do nothing",
            f"delete from t where {rows}; insert into t values ({low}, 'r', 1, repeat('r', 4444))",
        ]
    )
