"""First loads in chunks by the methods that find changes without a log."""

from __future__ import annotations

import logging
import random
import threading
from typing import Any

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.large_tables import SplitHints
from pg_ingest.config.selection import Replication
from pg_ingest.errors import (
    MethodUnavailable,
    SourceBusy,
    SourceUnreachable,
    TooManyRejected,
)
from pg_ingest.loading import chunked_load
from pg_ingest.loading.replicate import replicate
from pg_ingest_tests.between_chunks import breaks_off, chunks_stored, writes
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.methods.conftest import Pair, by_xmin, full, keyed

KEYED = keyed("t", "k")
SMALL = {"chunk_rows": 100, "load_threads": 1, "lock_timeout": 1}


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "pg_ingest.loading.chunked_load")
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)


def made(pair: Pair, rows: int = 500) -> None:
    """`k` is given by a sequence with each insert and update."""
    pair.database.execute(f"alter database {pair.database.name} set synchronous_commit = on")
    pair.database.execute(
        "create sequence s; create table t (id int primary key, v text, k bigint default nextval('s'));"
        f" insert into t select g, 'x' from generate_series(1, {rows}) g; analyze t"
    )


def load(pair: Pair, replication: Replication = KEYED, **options: Any) -> LoadReport:
    options = {"max_rejected": 0, **options}
    server = pair.server(**{**SMALL, **options.pop("limits", {})})
    return replicate(server, pair.destination, replication, pair.database.name, **options)


def interrupted(pair: Pair, after: int, **options: Any) -> None:
    """A load that breaks off when that many chunks are stored."""
    with pytest.raises(SourceUnreachable):
        load(pair, progress=breaks_off(after), **options)


def equal(pair: Pair, replication: Replication = KEYED) -> None:
    assert pair.stored(replication) == pair.source("select * from t")


def test_rows_that_are_written_meanwhile(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    made(pair)
    changed = "k = nextval('s')"
    progress = writes(
        pair.database,
        f"update t set v = 'u', {changed} where id in (1, 250, 499)",
        "insert into t values (-1, 'low'), (1000, 'high')",
        f"update t set v = 'again', {changed} where id % 50 = 0",
    )
    report = load(pair, progress=progress)
    assert chunks_stored(caplog) == [1, 2, 3, 4, 5]
    assert (report.phase, report.counts.inserted) == ("historical", 502)
    equal(pair)
    pair.database.execute(f"update t set v = 'later', {changed} where id = 7")
    assert load(pair).counts.updated == 1
    equal(pair)


def test_finished_chunks_are_not_read_again(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    made(pair)
    interrupted(pair, 3)
    first = chunks_stored(caplog)
    assert first == [1, 2, 3]
    assert pair.bookmark(KEYED) is None
    pair.database.execute("update t set v = 'between', k = nextval('s') where id in (5, 450)")
    report = load(pair)
    assert chunks_stored(caplog) == [4, 5]
    assert "3 of 5 chunks were stored before" in report.notes
    assert report.counts.total == report.rows_read == 500
    equal(pair)


def test_a_chunk_that_takes_too_long_is_read_in_parts(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """As a standby cancels what is in the way of its replay: 1.2 s at once are too much, 0.3 s are not."""
    made(pair)
    pair.database.execute(
        "create function slow(int) returns bool cost 10000 language plpgsql as 'begin"
        " if $1 between 201 and 300 then perform pg_sleep(0.012); end if; return true; end'"
    )
    filtered = by_xmin("t", where="public.slow(id)", split_hints=SplitHints(rows=500))
    report = load(pair, filtered, limits={"statement_timeout": 1})
    told = caplog.text
    assert sorted(chunks_stored(caplog)) == [1, 2, 3, 4, 5]
    assert 1 <= told.count("trying smaller statements") <= 2
    assert report.rows_read >= 500 and report.counts.total == 500
    equal(pair, filtered)


def test_a_chunk_that_is_cancelled_whatever_its_size(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(pair)
    monkeypatch.setattr(chunked_load, "_PARTS", (1, 2))
    slow = by_xmin(
        "t",
        where="case when id = 250 then pg_sleep(1.5) is not null else true end",
        split_hints=SplitHints(rows=500),
    )
    with pytest.raises(SourceBusy, match=r"timeout|took longer"):
        load(pair, slow, limits={"statement_timeout": 1})
    assert pair.bookmark(slow) is None
    load(pair, slow, limits={"statement_timeout": 30})
    equal(pair, slow)


def test_a_writer_that_never_rests(pair: Pair) -> None:
    made(pair, 1000)
    chance = random.Random(7)

    def write() -> None:
        low = chance.randint(-50, 1050)
        connection.execute(
            f"update t set v = v || '.', k = nextval('s') where id between {low} and {low + 5}"
        )
        connection.execute(f"insert into t values ({low}) on conflict do nothing")

    with pair.database.connect() as connection, meanwhile(write):
        for after in (1, 1):
            interrupted(pair, after, limits={"load_threads": 2})
        load(pair, limits={"load_threads": 3})
    load(pair)
    equal(pair)


def test_who_holds_the_position_makes_it_one_pass(pair: Pair) -> None:
    """A transaction that took a key and has not ended: no position holds for all chunks."""
    made(pair)
    with pair.database.connect(autocommit=False) as late:
        late.execute("insert into t values (501, 'late')")
        pair.database.execute("insert into t values (502, 'early')")
        report = load(pair)
        assert report.phase == "snapshot"
        late.commit()
    load(pair)
    equal(pair)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("alter table t add column n int", "columns"),
        ("alter table t alter column v type varchar", "columns"),
        (
            "truncate t; insert into t select g from generate_series(7, 400) g; analyze t",
            "truncated",
        ),
        ("vacuum full t", "truncated, rewritten"),
        (
            "alter table t rename to old; create table t (like old including all);"
            " insert into t select * from old where id < 300; drop table old cascade; analyze t",
            "dropped",
        ),
    ],
)
def test_what_makes_it_begin_anew(
    pair: Pair, caplog: pytest.LogCaptureFixture, change: str, reason: str
) -> None:
    made(pair)
    interrupted(pair, 3)
    pair.database.execute(change)
    chunks_stored(caplog)
    report = load(pair)
    assert any("thrown away" in note and reason in note for note in report.notes)
    equal(pair)
    assert pair.destination.chunked_loads() == []


def test_a_table_that_changes_while_it_is_read(pair: Pair) -> None:
    made(pair)
    alter = threading.Thread(target=pair.database.execute, args=["alter table t add column n int"])

    def progress(*_: Any) -> None:
        """It waits for the lock of the chunk that is just being read."""
        if alter.ident is None:
            alter.start()

    report = load(pair, progress=progress)
    alter.join()
    assert any(note.startswith("begun anew") and "columns" in note for note in report.notes)
    equal(pair)


def test_reset_begins_anew_but_not_for_its_own_run(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    made(pair)
    interrupted(pair, 2, reset=True, run_id="one")
    chunks_stored(caplog)
    interrupted(pair, 1, reset=True, run_id="one")
    assert chunks_stored(caplog) == [3]
    interrupted(pair, 1, reset=True, run_id="two")
    assert chunks_stored(caplog) == [1]
    load(pair, reset=True, run_id="three")
    assert chunks_stored(caplog) == [1, 2, 3, 4, 5]
    equal(pair)


def test_an_interrupted_reset_goes_on_with_the_next_sync(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then the old rows stay, deleted ones among them."""
    made(pair)
    load(pair)
    pair.database.execute("delete from t where id = 3")
    interrupted(pair, 2, reset=True)
    assert pair.stored(KEYED, "count(*)") == [(500,)]
    chunks_stored(caplog)
    load(pair)
    assert chunks_stored(caplog) == [3, 4, 5]
    equal(pair)


def test_another_method_ends_it(pair: Pair) -> None:
    made(pair)
    interrupted(pair, 2)
    report = load(pair, full("t"))
    assert "an unfinished load in chunks was thrown away" in report.notes
    assert pair.destination.chunked_loads() == []
    equal(pair)


def test_cut_by_hints(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    made(pair)
    hints = {"split_key": ("id",), "split_hints": SplitHints(bounds=("10", "200"))}
    load(pair, keyed("t", "k", **hints))
    assert chunks_stored(caplog) == [1, 2, 3]
    equal(pair)
    wrong = {"split_key": ("id",), "split_hints": SplitHints(bounds=("200", "10"))}
    with pytest.raises(MethodUnavailable, match="ascend"):
        load(pair, keyed("t", "k", **wrong), reset=True)
    with pytest.raises(MethodUnavailable, match="cut into chunks by v"):
        load(pair, keyed("t", "k", split_key=("v",)), reset=True)


def test_rejected_rows_of_all_chunks_count_together(pair: Pair) -> None:
    made(pair)
    pair.database.execute(
        "alter table t add n numeric(9, 2); update t set k = nextval('s'),"
        " n = case when id % 100 = 7 then 'NaN' else 1.5 end"
    )
    with pytest.raises(TooManyRejected):
        load(pair, max_rejected=3)
    report = load(pair, max_rejected=5)
    assert (report.counts.rejected, report.counts.total) == (5, 495)


def test_several_databases_in_one_table(pair: Pair, database: Database) -> None:
    """Each load replaces only its own database's rows."""
    shared = keyed("t", "k", shared=True)
    other = Pair(database, pair.path)
    for one in (pair, other):
        made(one)
    other.database.execute("delete from t where id > 450; analyze t")
    for one in (pair, other, pair):
        report = load(one, shared, reset=one.bookmark(shared) is not None)
        assert report.phase == "historical"
    name = "_pgi_database"
    found = pair.stored(shared, f"{name}, count(*) over (partition by {name}), id")
    assert {(row[0], row[1]) for row in found} == {
        (pair.database.name, 500),
        (other.database.name, 450),
    }
    assert len(found) == 950
