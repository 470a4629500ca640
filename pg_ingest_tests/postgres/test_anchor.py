"""Snapshots of a standby whose place in the log is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import MethodUnavailable, PassingFault, SourceBusy
from pg_ingest.postgres import anchor as module
from pg_ingest.postgres.anchor import anchored
from pg_ingest.postgres.log_end import after_all_seen, flushed_lsn
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.test_standby import Standby, catch_up
from pg_ingest_tests.postgres.conftest import server_for
from pg_ingest_tests.standby import standby_of, told

ROWS = 200


@pytest.fixture(scope="module")
def standby(cluster: Cluster) -> Iterator[Standby]:
    with standby_of(cluster) as running, told(cluster):
        yield running


def on(standby: Standby, database: Database) -> Database:
    return Database(database.name, standby.host, standby.port, standby.user)


@contextmanager
def updated(database: Database) -> Iterator[None]:
    """A table whose old row versions are removed as soon as nobody sees them, but never a row."""
    database.execute(
        "create table t (id int primary key, v int) with (fillfactor = 50);"
        f" insert into t select g, 0 from generate_series(1, {ROWS}) g"
    )
    done = threading.Event()

    def update(first: int) -> None:
        with database.connect(options="-c synchronous_commit=off") as connection:
            n = first
            while not done.is_set():
                n += 7
                connection.execute("update t set v = v + 1 where id = %s", [1 + n % ROWS])

    threads = [threading.Thread(target=update, args=[first]) for first in (0, 50, 100)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def rows_seen(place: Database) -> int:
    with (
        server_for(place).session(place.name) as session,
        anchored(session) as anchor,
        session.snapshot(anchor=anchor) as seen,
    ):
        assert seen.lsn == anchor.lsn > anchor.asked_at
        return int(session.rows("select count(*) from public.t")[0][0])


def test_all_rows_are_seen(database: Database, standby: Standby) -> None:
    with updated(database):
        catch_up(database, standby)
        assert [rows_seen(on(standby, database)) for _ in range(5)] == [ROWS] * 5


def test_what_was_removed_meanwhile_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary that may remove what its standby still needs, for which that waits no longer than 50 ms.

    Without the snapshot that is open meanwhile, nearly all of these see too few rows.
    """
    with (
        Cluster() as primary,
        standby_of(
            primary, hot_standby_feedback="off", max_standby_streaming_delay="50ms"
        ) as forgetful,
        told(primary),
        updated(database := Database("postgres", primary.host, primary.port, primary.user)),
    ):
        catch_up(database, forgetful)
        place = on(forgetful, database)
        with pytest.raises(MethodUnavailable, match="hot_standby_feedback is off"):
            rows_seen(place)
        monkeypatch.setattr(module, "check_feedback", lambda _session: None)
        refused = 0
        for _ in range(8):
            try:
                assert rows_seen(place) == ROWS
            except PassingFault:
                refused += 1
        assert refused


def test_one_that_is_not_held_any_more(database: Database, standby: Standby) -> None:
    catch_up(database, standby)
    place = on(standby, database)
    held = "select 1 from pg_replication_slots where temporary and database = current_database()"
    with server_for(place).session(database.name) as session:
        with anchored(session) as anchor:
            assert place.rows(held)
        wait_until(lambda: not place.rows(held))
        with pytest.raises(SourceBusy, match="is gone"), session.snapshot(anchor=anchor):
            pass
        with session.snapshot():
            pass


def test_the_end_of_the_log(
    database: Database, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    catch_up(database, standby)
    place = on(standby, database)
    with server_for(place, limits={"query_timeout": 1}).session(database.name) as session:
        assert after_all_seen(session) <= flushed_lsn(session)
        anywhere = Database("postgres", standby.host, standby.port, standby.user)
        anywhere.execute("select pg_wal_replay_pause()")
        try:
            database.execute("select pg_logical_emit_message(true, 'test', 'more')")
            wait_until(lambda: received_more(place))
            with pytest.raises(SourceBusy, match="does not replay"):
                after_all_seen(session)
        finally:
            anywhere.execute("select pg_wal_replay_resume()")


def received_more(place: Database) -> bool:
    asked = "select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()"
    return bool(place.rows(asked)[0][0])


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
