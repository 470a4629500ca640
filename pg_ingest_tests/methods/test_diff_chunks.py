"""Snapshot diff's first load in chunks: of many moments while it grows, of one when it is seen."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.batch import LoadReport
from pg_ingest.bookmark import SnapshotDiffBookmark
from pg_ingest.config.large_tables import SplitHints
from pg_ingest.config.selection import Replication
from pg_ingest.errors import BookmarkUnusable, DestinationBusy, SourceUnreachable
from pg_ingest.loading import chunked_load
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import diff_chunks, key_ranges
from pg_ingest.methods.key_ranges import KeyRanges
from pg_ingest.progress import Progress
from pg_ingest_tests.between_chunks import breaks_off, writes
from pg_ingest_tests.methods.conftest import Pair, differing, full

T = differing("t")
SMALL = {"chunk_rows": 100, "load_threads": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of some rows; progress is told with every batch."""
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)


def made(pair: Pair, rows: int = 500) -> None:
    pair.database.execute(
        f"alter database {pair.database.name} set synchronous_commit = on;"
        " create table t (id int primary key, v text, n numeric(9,2));"
        f" insert into t select g, 'v' || g, g from generate_series(1, {rows}) g; analyze t"
    )


def load(pair: Pair, which: Replication = T, **options: Any) -> LoadReport:
    options = {"max_rejected": 0, **options}
    server = pair.server(**{**SMALL, **options.pop("limits", {})})
    return replicate(server, pair.destination, which, pair.database.name, **options)


def interrupted(pair: Pair, after: int, which: Replication = T) -> None:
    """A load that breaks off when that many chunks are stored."""
    with pytest.raises(SourceUnreachable):
        load(pair, which, progress=breaks_off(after))


def equal(pair: Pair, which: Replication = T) -> None:
    """The rows are there, nothing of the load is left, and the next sync has nothing to do."""
    assert pair.stored(which) == pair.source(f"select * from {which.table.name}")
    assert pair.destination.chunked_loads() == []
    again = load(pair, which)
    assert (again.phase, again.rows_read, again.counts.changed) == ("incremental", 0, False)


def ranges(pair: Pair) -> KeyRanges:
    bookmark = pair.bookmark(T)
    assert isinstance(bookmark, SnapshotDiffBookmark)
    return KeyRanges.unpacked(bookmark.ranges)


def test_a_large_table_comes_in_chunks(pair: Pair) -> None:
    made(pair)
    seen: list[Progress] = []
    report = load(pair, progress=seen.append)
    assert (report.phase, report.counts.inserted, report.rows_read) == ("historical", 500, 500)
    assert [now.rows for now in seen] == [100, 200, 300, 400, 500]
    assert {now.expected for now in seen} == {500}
    found = ranges(pair)
    assert sum(found.rows) == 500
    assert len(found.rows) > 30
    equal(pair)


def test_rows_that_move_between_chunks(pair: Pair) -> None:
    """Forward: read twice, under both keys. Back: not read at all. Beside them, what else can happen."""
    made(pair)
    progress = writes(
        pair.database,
        "update t set id = 1001 where id = 3; update t set id = -1 where id = 480",
        "update t set id = 490000 where id = 481; update t set id = 3 where id = 482",
        "delete from t where id in (10, 450); insert into t values (0, 'low'), (2000, 'high')",
        "update t set v = 'new' where id in (20, 499); update t set n = -n where id = 21",
        "begin; delete from t where id = 30; insert into t values (30, 'again'); commit",
    )
    report = load(pair, progress=progress)
    assert report.phase == "historical"
    assert any("key ranges changed" in note for note in report.notes)
    equal(pair)


def test_a_sum_that_stays_although_rows_moved(pair: Pair) -> None:
    """Two rows change places while their chunks are read: all values are where they were, under other keys."""
    made(pair)
    swap = (
        "begin; update t set id = -1 where id = 5; update t set id = 5 where id = 405;"
        " update t set id = 405 where id = -1; commit"
    )
    load(pair, progress=writes(pair.database, "select 1", swap))
    equal(pair)


def test_finished_chunks_are_not_read_again(pair: Pair) -> None:
    made(pair)
    interrupted(pair, 3)
    assert pair.bookmark(T) is None
    pair.database.execute(
        "update t set v = 'between' where id in (5, 450); delete from t where id = 7;"
        " update t set id = 6000 where id = 8; update t set id = 8 where id = 470"
    )
    seen: list[Progress] = []
    report = load(pair, progress=seen.append)
    assert "3 of 5 chunks were stored before" in report.notes
    assert {now.earlier for now in seen} == {300}
    equal(pair)


def test_a_comparison_that_broke_off_is_made_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has stored anything, and after it has but before anybody could see it."""
    made(pair)
    real = pair.destination.__class__.publish_chunks

    def broken(*_: Any) -> Any:
        raise SourceUnreachable("broken by a test")

    for step in ("catch_up", "publish_chunks"):
        with monkeypatch.context() as patch:
            patch.setattr(pair.destination.__class__, step, lambda *_, **__: broken())
            with pytest.raises(SourceUnreachable):
                load(
                    pair,
                    progress=writes(pair.database, f"update t set v = '{step}' where id % 90 = 7"),
                )
        pair.database.execute("update t set n = n + 1 where id = 300; delete from t where id = 11")
    assert pair.destination.__class__.publish_chunks is real
    report = load(pair)
    assert "5 of 5 chunks were stored before" in report.notes
    assert report.phase == "historical"
    equal(pair)


def test_two_that_compare_at_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one would compare with what was stored before the first: it must not store what it found."""
    made(pair)
    kind = pair.destination.__class__
    catch_up = kind.catch_up

    def broken(*_: Any, **__: Any) -> Any:
        raise SourceUnreachable("broken by a test")

    def overtaken(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(kind, "catch_up", catch_up)
        with monkeypatch.context() as patch, pytest.raises(SourceUnreachable):
            patch.setattr(kind, "publish_chunks", broken)
            load(pair)
        catch_up(*arguments, **options)

    monkeypatch.setattr(kind, "catch_up", overtaken)
    with pytest.raises(DestinationBusy, match="up to date by another process"):
        load(pair, progress=writes(pair.database, "select 1", "update t set v = 'y' where id = 5"))
    load(pair)
    equal(pair)


@pytest.mark.parametrize(
    "change",
    [
        "truncate t; insert into t select g, 'other' from generate_series(-50, 300) g; analyze t",
        "vacuum full t",
        "truncate t",
        "update t set id = id + 2500, v = 'all'",
    ],
)
def test_what_ends_other_loads_is_only_another_difference(pair: Pair, change: str) -> None:
    made(pair)
    interrupted(pair, 3)
    pair.database.execute(change)
    report = load(pair)
    assert "3 of 5 chunks were stored before" in report.notes
    equal(pair)


def test_other_columns_begin_it_anew(pair: Pair) -> None:
    made(pair)
    interrupted(pair, 3)
    pair.database.execute("alter table t add column extra int; update t set extra = id")
    report = load(pair)
    assert any("thrown away" in note and "columns" in note for note in report.notes)
    equal(pair)


def test_columns_that_change_before_the_comparison(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of other columns cannot be compared: the chunks are of no use, and all rows are read once."""
    made(pair)
    real = chunked_load.read_in_chunks

    def altered(*arguments: Any) -> Any:
        found = real(*arguments)
        pair.database.execute("alter table t alter n type numeric(9,3)")
        return found

    monkeypatch.setattr("pg_ingest.loading.load_chunks.read_in_chunks", altered)
    report = load(pair)
    assert report.phase == "snapshot"
    assert any("chunks were thrown away" in note for note in report.notes)
    monkeypatch.undo()
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    equal(pair)


def test_a_wrong_estimate_is_mended_by_the_comparison(pair: Pair) -> None:
    """Ranges made for three hundred rows of which there are five thousand are cut."""
    made(pair, 5000)
    load(pair, differing("t", split_hints=SplitHints(rows=300)))
    found = ranges(pair)
    assert max(found.rows) <= 3 * key_ranges.wanted_rows(5000)
    equal(pair)


def test_a_row_that_is_rejected_twice_counts_once(pair: Pair) -> None:
    """With its chunk, and with its range when the chunks are compared."""
    made(pair)
    pair.database.execute("update t set n = 'NaN' where id in (7, 420)")
    beside = writes(pair.database, "select 1", "update t set v = 'y' where id < 40 and id <> 7")
    report = load(pair, max_rejected=2, progress=beside)
    assert (report.counts.rejected, report.counts.total) == (2, 498)


def test_reset_and_another_method_before(pair: Pair) -> None:
    made(pair)
    load(pair, full("t"))
    report = load(pair)
    assert report.phase == "historical"
    assert any("loaded by full_table before" in note for note in report.notes)
    pair.database.execute("update t set v = 'new' where id < 40")
    assert load(pair, reset=True).phase == "historical"
    equal(pair)


KEYS = {
    "words": ("k text primary key", "chr(60 + g % 70) || repeat('ä', g % 5) || g"),
    "uuids": ("k uuid primary key", "md5(g::text)::uuid"),
    "two": ("a text, k int, primary key (a, k)", "chr(65 + g % 3), g"),
    "one is not ordered": ("a float8, k int, primary key (a, k)", "g % 3, g"),
    "decimals": ("k numeric(30,3) primary key", "(g - 200) / 8.0"),
}


@pytest.mark.parametrize("name", KEYS)
def test_chunks_and_ranges_need_not_have_the_same_order(pair: Pair, name: str) -> None:
    """Chunks are as the server's index orders keys, ranges as source and destination both do."""
    declared, values = KEYS[name]
    pair.database.execute(
        f"create table t ({declared}, v int);"
        f" insert into t select {values}, g from generate_series(1, 400) g; analyze t"
    )
    progress = writes(
        pair.database,
        "update t set v = -v where v in (17, 251)",
        "delete from t where v % 37 = 3",
        f"insert into t select {values}, g from generate_series(401, 430) g",
    )
    report = load(pair, progress=progress)
    assert report.phase == "historical"
    texts = "format('%s', a)::text as a, k, v" if name == "one is not ordered" else "*"
    there = pair.source(f"select {texts} from t")
    if name == "one is not ordered":
        there = [(f"{row[0]}.0", *row[1:]) for row in there]
    assert pair.stored(T) == there
    assert load(pair).rows_read == 0


@given(data=st.data())
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_changes(pair: Pair, data: st.DataObject) -> None:
    """Many small transactions, some of them open while chunks are read, and loads that break off."""
    chance = random.Random(data.draw(st.integers(0, 1 << 30)))
    pair.database.execute("drop table if exists t")
    made(pair, 200)
    with pair.database.connect(autocommit=False) as late:

        def write(*_: Any) -> None:
            pair.database.execute(_any_statement(chance))
            if chance.random() < 0.5:
                late.execute(
                    f"insert into t values ({chance.randint(9000, 99000)}) on conflict do nothing"
                )
            if chance.random() < 0.3:
                late.commit()
            if chance.random() < 0.1:
                raise SourceUnreachable("broken by a test")

        limits = {"chunk_rows": chance.choice([40, 90])}
        for _ in range(40):
            try:
                load(pair, progress=write, limits=limits, reset=True, run_id="one")
                break
            except SourceUnreachable:
                pass
        late.commit()
    load(pair)
    equal(pair)


def _any_statement(chance: random.Random) -> str:
    low = chance.randint(-20, 230)
    rows = f"id between {low} and {low + chance.choice([0, 1, 30])}"
    return chance.choice(
        [
            f"update t set v = v || '.' where {rows}",
            f"update t set n = null where {rows}",
            f"delete from t where {rows}",
            f"insert into t select g, 'i' from generate_series({low}, {low + 9}) g on conflict do nothing",
            f"update t set id = id + {chance.choice([1000, 3000, 5000])} where id = {low}",
            f"update t set id = id - (select min(id) + {chance.randint(1, 200)} from t where id > 900)"
            f" where id = (select min(id) from t where id > 900)"
            f" and not exists (select from t as o where o.id = {chance.randint(1, 200)})",
            f"update t set id = {low} where id = (select max(id) from t)"
            f" and not exists (select from t as o where o.id = {low})",
        ]
    )


def test_a_note_that_cannot_be_read() -> None:
    found = {3: (7, 1 << 63), 900: (1, 0)}
    assert diff_chunks.unpacked(diff_chunks.packed(found)) == found
    for text in ("", "{}", "abc"):
        with pytest.raises(BookmarkUnusable):
            diff_chunks.unpacked(text)
