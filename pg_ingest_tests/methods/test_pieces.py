"""Reading in pieces without a standby: how tables are cut, and what is tried in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from pg_ingest.batch import REJECTED_SCHEMA, Batch
from pg_ingest.bookmark import XminBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.errors import SourceBusy, SourceUnreachable, StatementCancelled
from pg_ingest.loading.replicate import replicate
from pg_ingest.lsn import Lsn
from pg_ingest.methods import key_ranges, pieces, spool
from pg_ingest.methods.pieces import NotInPieces, refuse_earlier, until_it_passes
from pg_ingest.methods.registry import reader_for
from pg_ingest.methods.request import Request
from pg_ingest.methods.spool import Spool
from pg_ingest.postgres import ranges
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.ranges import KeyRange, cut
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed

CANCELLED = StatementCancelled("cancelled", detail="sqlstate 40001", hint="be patient")


def remembering(count: int) -> XminBookmark:
    return XminBookmark(1, 2, "", "", (), (), (), pieces=count)


@pytest.mark.parametrize(
    ("before", "fails", "tried"),
    [
        (None, 0, [1]),
        (None, 1, [1, 16]),
        (None, 2, [1, 16, 64]),
        (remembering(8), 0, [8]),
        (remembering(8), 1, [8, 32]),
        (remembering(100_000), 1, [1024, 1024]),
    ],
)
def test_smaller_and_smaller(before: XminBookmark | None, fails: int, tried: list[int]) -> None:
    counts: list[int] = []

    def work(count: int) -> str:
        counts.append(count)
        if len(counts) <= fails:
            raise CANCELLED
        return "done"

    assert until_it_passes(before, work) == "done"
    assert counts == tried


def test_no_longer_than_it_makes_sense() -> None:
    def work(_: int) -> None:
        raise CANCELLED

    with pytest.raises(StatementCancelled, match="cancelled") as caught:
        until_it_passes(None, work)
    assert "smaller ones were cancelled too" in caught.value.detail
    assert caught.value.hint == "be patient"


def test_what_cannot_be_cut_is_read_whole_and_says_why() -> None:
    def work(count: int) -> str:
        if count > 1:
            raise NotInPieces("it is a view")
        return "whole"

    def busy(count: int) -> str:
        work(count)
        raise CANCELLED

    assert until_it_passes(remembering(4), work) == "whole"
    with pytest.raises(StatementCancelled) as caught:
        until_it_passes(None, busy)
    assert caught.value.detail == "sqlstate 40001; smaller statements: it is a view"


def test_another_failure_is_not_tried_again() -> None:
    counts: list[int] = []

    def work(count: int) -> None:
        counts.append(count)
        raise SourceUnreachable("gone")

    with pytest.raises(SourceUnreachable):
        until_it_passes(None, work)
    assert counts == [1]


def seen(xmin: int, lsn: int) -> Snapshot:
    return Snapshot(Lsn(lsn), "", xmin, xmin + 5, ())


@pytest.mark.parametrize(("xmin", "lsn"), [(99, 1000), (100, 999)])
def test_a_piece_from_a_server_that_is_behind(pair: Pair, xmin: int, lsn: int) -> None:
    pair.database.execute("create table t (id int primary key)")
    with pair.server().session(pair.database.name) as session:
        table = describe(session, full("t").table)
    refuse_earlier(table, seen(100, 1000), seen(100, 1000))
    refuse_earlier(table, seen(100, 1000), seen(101, 2000))
    with pytest.raises(SourceBusy, match="behind the one before"):
        refuse_earlier(table, seen(100, 1000), seen(xmin, lsn))


@pytest.mark.parametrize("in_memory", [1 << 20, 1])
def test_a_spool_gives_back_what_it_took(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", in_memory)
    rows = [
        pa.RecordBatch.from_pydict({"n": list(range(at, at + 500)), "v": ["x"] * 500})
        for at in (0, 500)
    ]
    bad = pa.RecordBatch.from_pylist(
        [{"column": "n", "reason": "too large", "row": "{}"}], schema=REJECTED_SCHEMA
    )
    taken = [Batch(rows[0], bad, 11), Batch(rows[1], None, 22)]
    with Spool() as kept:
        back = list(kept.take(iter(taken)).batches())
    assert [each.rows for each in back[:2]] == rows
    assert sum(each.size for each in back) == 33
    assert [each.rejected for each in back if each.rejected is not None] == [bad]


def test_a_spool_of_nothing_is_empty() -> None:
    with Spool() as kept:
        assert list(kept.take(iter(())).batches()) == []


def test_a_spool_lets_an_error_through() -> None:
    def broken() -> Iterator[Batch]:
        yield Batch(pa.RecordBatch.from_pydict({"n": [1]}))
        raise CANCELLED

    with Spool() as kept, pytest.raises(StatementCancelled):
        kept.take(broken())


@pytest.mark.parametrize("sampled", [False, True])
def test_parts_hold_every_key_once(
    pair: Pair, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sampled:
        monkeypatch.setattr(ranges, "_PAGES_PER_RANGE", 1)
    pair.database.execute(
        'create table t (a int, b text collate "C", v text, primary key (a, b));'
        " insert into t select g % 50, g::text, repeat('x', 200) from generate_series(1, 4000) g"
    )
    with pair.server().session(pair.database.name) as session:
        table = describe(session, full("t").table)
        split = [table.column(name) for name in ("a", "b")]
        whole = KeyRange(tuple(split), None, None)
        parts = cut(session, table, whole, 16, share=1 / 16)
        finer = cut(session, table, parts[5], 4, share=1 / 64)
        asked = [parts[:5], finer, parts[6:]]
        found: list[tuple[int, str]] = []
        for part in (each for some in asked for each in some):
            statement = select_rows(table, split, bounds=[part]).statement
            found += session.rows(statement)
    assert len(parts) == 16
    assert len(finer) >= 3
    assert sorted(found) == sorted((n % 50, str(n)) for n in range(1, 4001))


KINDS = {
    "two columns": "a int, id uuid default gen_random_uuid(), n int, primary key (a, id)",
    "texts": "a text, n int, primary key (a)",
    "a partitioned table": "a int, n int, primary key (a)) partition by range (a",
    "a key that only an index knows": "a int not null, n int",
}


def made(pair: Pair, kind: str) -> None:
    pair.database.execute(f"create table t ({KINDS[kind]})")
    if "partition" in kind:
        pair.database.execute(
            "create table p partition of t for values from (0) to (300);"
            " create table q partition of t default"
        )
    if "index" in kind:
        pair.database.execute("create index on t (a)")
    pair.database.execute("insert into t (a, n) select g, 1 from generate_series(1, 500) g")
    pair.database.execute("create index on t (n); analyze t")


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (keyed, "a partitioned table"),
        (keyed, "a key that only an index knows"),
        (by_xmin, "two columns"),
        (delta, "a partitioned table"),
        (delta, "texts"),
        (differing, "two columns"),
        (differing, "a partitioned table"),
        (differing, "texts"),
    ],
)
def test_tables_of_all_kinds_in_pieces(
    pair: Pair, method: Callable[..., Replication], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "remembered", lambda _: 7)
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 20)
    key = {"key": ("a",)} if "index" in kind else {}
    replication = keyed("t", "n", **key) if method is keyed else method("t", **key)
    made(pair, kind)
    by_text = method is differing and kind == "texts"
    for change in (
        "select 1",
        "update t set n = n + 1 where n = 1 and a::int % 9 = 0; insert into t (a, n) values (999, 3)",
        "update t set n = n + 2 where a::int % 100 < 3",
    ):
        pair.database.execute(change)
        report = pair.sync(replication)
        assert any("pieces of the key" in note for note in report.notes) is not by_text
        assert pair.stored(replication) == pair.source("select * from t")
    if method in (delta, differing):
        pair.database.execute("delete from t where a::int % 7 = 0")
        assert pair.sync(replication).counts.deleted
        assert pair.stored(replication) == pair.source("select * from t")


@pytest.mark.parametrize(
    ("replication", "reason"),
    [
        (full("t"), "reads all rows at one moment"),
        (by_xmin("t", key=("n",)), "no index begins with a NOT NULL column of its key"),
        (keyed("v", "n", key=("id",)), "which rows of a view are in a piece"),
        (delta("t", update_key=("n",)), "update_key"),
        (differing("t", key=("c",)), "compared as text"),
    ],
)
def test_what_is_not_read_in_pieces(pair: Pair, replication: Replication, reason: str) -> None:
    pair.database.execute(
        "create table t (id int primary key, n int, c text not null);"
        " insert into t values (1, 1, 'a'); create view v as select * from t"
    )
    with pair.server().session(pair.database.name) as session:
        table = describe(session, replication.table)
        with pytest.raises(NotInPieces, match=reason):
            read = reader_for(replication.method, 4)
            with read(Request(session, replication, table, pieces=4)):
                pass


def test_a_timeout_of_a_primary(pair: Pair) -> None:
    pair.database.execute(
        "create table t (id int primary key); insert into t select generate_series(1, 400);"
        " create function slow(int) returns bool cost 10000 language plpgsql as 'begin"
        " if $1 between 101 and 200 then perform pg_sleep(0.012); end if; return true; end'"
    )
    server = pair.server(statement_timeout=1)
    slow = by_xmin("t", where="public.slow(id)")
    report = replicate(server, pair.destination, slow, pair.database.name, max_rejected=0)
    assert "pieces of the key" in report.notes[-1]
    assert report.counts.total == 400
