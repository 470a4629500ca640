"""What a snapshot records, and that it is one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import QueryRefused
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot, snapshot_query
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


def test_parses_ids_that_were_running() -> None:
    snapshot = Snapshot.parse("16/B374D848", "2026-01-02T03:04:05+00:00", "10:20:10,14,15")
    assert (snapshot.xmin, snapshot.xmax, snapshot.in_progress) == (10, 20, (10, 14, 15))
    assert snapshot.lsn == Lsn.parse("16/B374D848")
    assert Snapshot.parse("0/0", "", "7:7:").in_progress == ()


def test_sees_nothing_committed_later(database: Database, session: Session) -> None:
    database.execute("create table t (i int)")
    database.execute("insert into t values (1)")
    with session.snapshot():
        database.execute("insert into t values (2)")
        assert session.rows("SELECT i FROM public.t") == [(1,)]
    assert session.rows("SELECT i FROM public.t ORDER BY 1") == [(1,), (2,)]


def test_records_what_runs_meanwhile(database: Database, session: Session) -> None:
    with database.connect() as other:
        other.execute("begin")
        (running,) = other.execute("select pg_current_xact_id()::text::int8").fetchone() or (0,)
        database.execute("create table later (i int)")
        with session.snapshot() as snapshot:
            ((visible,),) = session.rows("SELECT pg_current_snapshot()::text")
        other.execute("rollback")
    assert running in snapshot.in_progress
    assert snapshot.xmin <= running < snapshot.xmax
    text = f"{snapshot.xmin}:{snapshot.xmax}:{','.join(map(str, snapshot.in_progress))}"
    assert text == visible


def test_records_position_and_time(database: Database, session: Session) -> None:
    ((before,),) = database.rows("select pg_current_wal_lsn()::text")
    with session.snapshot() as snapshot:
        pass
    ((after,),) = database.rows("select pg_current_wal_insert_lsn()::text")
    assert Lsn.parse(before) <= snapshot.lsn <= Lsn.parse(after)
    taken = datetime.fromisoformat(snapshot.taken_at)
    assert taken.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - taken) < timedelta(minutes=5)


def test_is_read_only_and_ends_without_a_trace(database: Database, session: Session) -> None:
    with session.snapshot(), pytest.raises(QueryRefused, match="refuses"):
        session.rows(
            "SELECT pg_current_xact_id(), set_config('transaction_read_only', 'off', false)"
        )
        session.rows("CREATE TABLE public.t (i int)")
    assert session.rows("SELECT 1") == [(1,)]
    ((state,),) = database.rows(
        "select state from pg_stat_activity where application_name = 'pg_ingest/shop/sync'"
        " and datname = current_database()"
    )
    assert state == "idle"


def test_ends_after_an_error_inside(visitor: Session) -> None:
    with pytest.raises(ZeroDivisionError), visitor.snapshot():
        raise ZeroDivisionError
    with pytest.raises(QueryRefused), visitor.snapshot():
        visitor.rows("SELECT nonsense(")
    with visitor.snapshot() as again:
        assert again.xmin > 0


def test_settings_are_bound_to_the_transaction(visitor: Session) -> None:
    """As behind a pooler that hands the transaction to another server connection."""
    visitor.rows("SELECT set_config('DateStyle', 'German', false)")
    with visitor.snapshot():
        assert visitor.rows("SELECT date '2024-02-01'::text") == [("2024-02-01",)]


@pytest.mark.parametrize(
    ("version", "standby", "names"),
    [
        (180000, False, ("pg_current_wal_insert_lsn()", "pg_current_snapshot()")),
        (180000, True, ("pg_last_wal_replay_lsn()", "pg_current_snapshot()")),
        (120000, False, ("pg_current_wal_insert_lsn()", "txid_current_snapshot()")),
        (90600, False, ("pg_current_xlog_insert_location()", "txid_current_snapshot()")),
        (90600, True, ("pg_last_xlog_replay_location()", "txid_current_snapshot()")),
    ],
)
def test_names_of_each_version(version: int, standby: bool, names: tuple[str, str]) -> None:
    query = snapshot_query(version, standby)
    assert all(name in query for name in names)


def test_on_a_standby() -> None:
    with Cluster() as standby:
        standby.stop("fast")
        (standby.data / "standby.signal").touch()
        standby.start()
        with server_for(standby).session("postgres") as session:
            assert session.is_standby
            with session.snapshot() as snapshot:
                ((replayed,),) = session.rows("SELECT pg_last_wal_replay_lsn()::text")
            assert snapshot.lsn == Lsn.parse(replayed) > Lsn(0)
            assert snapshot.in_progress == ()
