"""A server that loses transactions which have been seen: the ids it gives out again are read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pg_ingest.bookmark import KeyBasedBookmark, XminBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster
from pg_ingest.methods import changed_rows, position
from pg_ingest.postgres import row_versions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following, logged
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, keyed


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Cluster]:
    """Nothing is flushed for ten seconds; so commits of the last moment are lost in a crash."""
    settings = {"wal_writer_delay": "10s", "autovacuum": "off", "max_prepared_transactions": "2"}
    with Cluster(settings=settings) as running:
        yield running


@pytest.fixture
def pair(forgetful: Cluster, tmp_path: Path) -> Pair:
    database = Database("postgres", forgetful.host, forgetful.port, forgetful.user)
    database.execute("drop schema public cascade; create schema public; checkpoint")
    return Pair(database, tmp_path / "warehouse.duckdb")


def seen_and_lost(pair: Pair, server: Cluster, replication: Replication) -> tuple[str, ...]:
    """Rows are stored; a crash takes the newest away; others get their ids. What the sync after that lacks."""
    pair.database.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'a')"
    )
    pair.database.execute("checkpoint")
    pair.sync(replication)
    with pair.database.connect() as writer:
        for number in range(2, 12):
            writer.execute("insert into t values (%s, 'lost')", [number])
    assert pair.sync(replication).counts.total == 11
    server.stop("immediate")
    server.start()
    assert pair.database.rows("select count(*) from t") == [(1,)]
    with pair.database.connect() as writer:
        for number in range(101, 121):
            writer.execute("insert into t values (%s, 'new')", [number])
    pair.sync(replication)
    stored = pair.stored(replication)
    return tuple(row[0] for row in pair.source("select * from t") if row not in stored)


@pytest.mark.parametrize("replication", [by_xmin("t"), delta("t")], ids=["xmin", "delta"])
def test_ids_that_are_given_out_again(
    pair: Pair, forgetful: Cluster, monkeypatch: pytest.MonkeyPatch, replication: Replication
) -> None:
    monkeypatch.setattr(changed_rows, "PATIENCE", 0.05)
    assert seen_and_lost(pair, forgetful, replication) == ()
    if replication.method == "delta_snapshot":
        assert pair.stored(replication) == pair.source("select * from t")


def test_without_waiting_for_the_disk_they_would_be_missed(
    pair: Pair, forgetful: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above does test something."""
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    assert seen_and_lost(pair, forgetful, by_xmin("t"))


def has_what_a_crash_took_back(pair: Pair, server: Cluster, replication: Replication) -> bool:
    """Whether an UPDATE of the last moment is stored although a crash took it back."""
    pair.database.execute("create table t (id int primary key, v text)")
    pair.database.execute("insert into t values (1, 'a')")
    pair.database.execute("checkpoint")
    pair.sync(replication)
    pair.database.execute("set synchronous_commit = off; update t set v = 'b'")
    pair.sync(replication)
    server.stop("immediate")
    server.start()
    for _ in range(5):  # else the transaction counter would tell
        pair.database.rows("select txid_current()")
    pair.sync(replication)
    return pair.stored(replication) != pair.source("select * from t")


@pytest.mark.parametrize("method", [by_xmin, delta])
def test_no_update_is_stored_that_a_crash_takes_back(
    method: Callable[[str], Replication], tmp_path: Path
) -> None:
    with Cluster(settings={"wal_writer_delay": "650ms", "autovacuum": "off"}) as server:
        database = Database("postgres", server.host, server.port, server.user)
        pair = Pair(database, tmp_path / "warehouse.duckdb")
        assert not has_what_a_crash_took_back(pair, server, method("t"))


@pytest.mark.parametrize("method", [by_xmin, delta])
def test_without_waiting_for_the_disk_one_would_be(
    method: Callable[[str], Replication],
    pair: Pair,
    forgetful: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_versions, "is_flushed", lambda *_: True)
    assert has_what_a_crash_took_back(pair, forgetful, method("t"))


def test_the_position_waits_for_the_disk(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the id of the last checkpoint, and never behind where it was."""
    monkeypatch.setattr(changed_rows, "PATIENCE", 0.05)
    pair.database.execute("create table t (id int primary key); checkpoint")
    replication = by_xmin("t")
    for number in range(1, 4):
        pair.database.execute("insert into t values (%s)", number)
    pair.sync(replication)
    held = pair.bookmark(replication)
    assert isinstance(held, XminBookmark)
    assert held.xmin < held.xmax
    report = pair.sync(replication)
    assert (report.rows_read, report.counts.changed) == (3, False)
    with pair.database.connect(options="-c synchronous_commit=on") as writer:
        writer.execute("insert into t values (9)")
        writer.execute("checkpoint")
    pair.sync(replication)
    moved = pair.bookmark(replication)
    assert isinstance(moved, XminBookmark)
    assert moved.xmin == moved.xmax
    pair.database.execute("insert into t values (10)")
    pair.sync(replication)
    stays = pair.bookmark(replication)
    assert isinstance(stays, XminBookmark)
    assert stays.xmin == moved.xmin
    assert pair.stored(replication) == pair.source("select * from t")


def test_a_role_that_may_not_look_at_checkpoints(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads everything again until the log is on disk."""
    monkeypatch.setattr(changed_rows, "PATIENCE", 0.05)
    role = "blind"
    pair.database.execute(
        "create table t (id int primary key); insert into t values (1); create role blind login;"
        " grant usage on schema public to blind; grant select on t to blind;"
        " revoke execute on function pg_control_checkpoint() from public"
    )
    replication = by_xmin("t")
    pair.sync(replication, user=role)
    assert pair.sync(replication, user=role).rows_read == 1
    with pair.database.connect(options="-c synchronous_commit=on") as writer:
        for _ in range(40):
            writer.execute("insert into t select max(id) + 1 from t")
    assert pair.sync(replication, user=role).counts.total == 41


def test_keys_that_a_sequence_gives_out_again(
    pair: Pair, forgetful: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash takes the sequence back too; a key that has been seen is no position before it is on disk."""
    monkeypatch.setattr(position, "FLUSH_PATIENCE", 0.05)
    pair.database.execute("create table t (id serial primary key, v text)")
    pair.database.execute("checkpoint")
    replication = keyed("t", "id")
    with pair.database.connect() as writer:
        for _ in range(10):
            writer.execute("insert into t (v) values ('lost')")
    report = pair.sync(replication)
    assert any("wal_writer_delay" in note for note in report.notes)
    held = pair.bookmark(replication)
    assert isinstance(held, KeyBasedBookmark)
    assert (held.position, held.pending, report.counts.total) == (None, (), 10)
    forgetful.stop("immediate")
    forgetful.start()
    assert pair.database.rows("select count(*) from t") == [(0,)]
    with pair.database.connect() as writer:
        for _ in range(15):
            writer.execute("insert into t (v) values ('new')")
    pair.sync(replication)
    assert pair.stored(replication) == pair.source("select * from t")


def test_keys_after_a_promotion(pair: Pair, forgetful: Cluster) -> None:
    """A standby that had not got the newest rows gives their keys out once more."""
    pair.database.execute("create table t (id int primary key, v text)")
    with pair.database.connect(options="-c synchronous_commit=on") as writer:
        writer.execute("insert into t select i, 'old' from generate_series(1, 10) i")
    replication = keyed("t", "id")
    for _ in range(2):  # looking at rows for the first time may itself write to the log (hint bits)
        pair.sync(replication)
        pair.database.execute("checkpoint")
    pair.sync(replication)
    assert pair.position(replication) == "10"
    pair.database.execute("delete from t where id > 5; checkpoint")
    forgetful.stop("fast")
    (forgetful.data / "standby.signal").touch()
    forgetful.start()
    pair.database.execute("select pg_promote()")
    with pair.database.connect(options="-c synchronous_commit=on") as writer:
        writer.execute("insert into t select i, 'new' from generate_series(6, 12) i")
    report = pair.sync(replication)
    assert any("promoted" in note for note in report.notes)
    assert pair.stored(replication) == pair.source("select * from t")
    pair.sync(replication)
    assert pair.position(replication) == "12"
    assert pair.sync(replication).rows_read == 1


def test_a_snapshot_that_joins_the_log_waits_for_the_disk(
    pair: Pair, forgetful: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else rows would stay that were lost, and rows be left out whose transaction has the id of a lost one."""
    table = logged("t")
    pair.database.execute("create table t (id int primary key, v text)")
    seen: list[bool] = []

    def written_at_last(*asked: object) -> bool:
        pair.database.execute("checkpoint")
        seen.append(
            pair.database.rows("select pg_current_wal_flush_lsn() >= %s::pg_lsn", str(asked[1]))[0][
                0
            ]
        )
        return seen[-1]

    with following(pair.database, tmp_path) as shop:
        captured = shop.capture(table)
        with pair.database.connect() as writer:
            for number in range(10):
                writer.execute("insert into t values (%s, 'seen')", [number])
        monkeypatch.setattr(row_versions, "is_flushed", written_at_last)
        assert shop.apply(captured, table)["t"].error is None
        forgetful.stop("immediate")
        forgetful.start()
        shop.sync(table)
        shop.check(table)
        assert len(shop.stored("t")) == 10
    assert seen[-1]
