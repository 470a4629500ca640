"""Reading from a hot standby."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import SourceBusy
from pg_ingest.loading import chunked_load
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import key_ranges
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed

BY_ID = keyed("t", "id")


@dataclass
class Standby(Cluster):
    """A streaming copy of `primary`."""

    primary: Cluster | None = None

    def _initialise(self) -> None:
        assert self.primary is not None
        address = ("-h", self.primary.host, "-p", self.primary.port, "-U", self.primary.user)
        self._run("pg_basebackup", "-D", self.data, *address, "-R", "-X", "stream", "-c", "fast")


@pytest.fixture(scope="module")
def standby(cluster: Cluster) -> Iterator[Standby]:
    settings = {
        **cluster.settings,
        "primary_conninfo": f"host={cluster.host} port={cluster.port} user={cluster.user}",
    }
    with Standby(settings=settings, primary=cluster) as running:
        yield running


@pytest.fixture
def copy(database: Database, standby: Standby, tmp_path: Path) -> Pair:
    """The database as the standby has it."""
    replica = Database(database.name, standby.host, standby.port, standby.user)
    return Pair(replica, tmp_path / "warehouse.duckdb")


def catch_up(database: Database, standby: Standby) -> None:
    """Wait until the standby has replayed what the primary has written."""
    ((lsn,),) = database.rows("select pg_current_wal_insert_lsn()::text")
    with database.connect(options="-c synchronous_commit=on") as connection:
        connection.execute("select pg_logical_emit_message(true, 'test', 'flush')")
    anywhere = Database("postgres", standby.host, standby.port, standby.user)
    deadline = time.monotonic() + 30
    while not anywhere.rows("select pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn)[0][0]:
        assert time.monotonic() < deadline, "the standby does not catch up"
        time.sleep(0.02)


def test_a_full_table_from_a_standby(database: Database, standby: Standby, copy: Pair) -> None:
    database.execute(
        "create table t (id int, v text); insert into t select g, 'x' from generate_series(1, 99) g"
    )
    catch_up(database, standby)
    report = copy.sync(full("t"))
    assert report.counts.total == 99
    assert report.lag_bytes is not None
    assert copy.stored(full("t")) == copy.source("select * from t")


def test_a_late_commit_at_the_primary(database: Database, standby: Standby, copy: Pair) -> None:
    database.execute("create table t (id int generated always as identity primary key, v text)")
    with database.connect(autocommit=False) as late:
        late.execute("insert into t (v) values ('late')")
        database.execute("insert into t (v) values ('early')")
        catch_up(database, standby)
        for _ in range(2):
            report = copy.sync(BY_ID)
            assert copy.position(BY_ID) is None
        assert "read from a standby" in report.notes[0]
    catch_up(database, standby)
    copy.sync(BY_ID)
    assert copy.stored(BY_ID) == copy.source("select * from t")
    assert copy.position(BY_ID) == "2"
    assert not copy.sync(BY_ID).counts.changed


def test_a_prepared_transaction_at_the_primary(
    database: Database, standby: Standby, copy: Pair
) -> None:
    database.execute("create table t (id int generated always as identity primary key, v text)")
    with database.connect() as late:
        late.execute("begin; insert into t (v) values ('late')")
        late.execute(f"prepare transaction '{database.name}'")
    database.execute("insert into t (v) values ('early')")
    catch_up(database, standby)
    copy.sync(BY_ID)
    copy.sync(BY_ID)
    assert copy.position(BY_ID) is None
    database.execute(f"commit prepared '{database.name}'")
    catch_up(database, standby)
    copy.sync(BY_ID)
    assert copy.stored(BY_ID) == copy.source("select * from t")


def test_a_reload_in_one_transaction_arrives_whole(
    database: Database, standby: Standby, copy: Pair
) -> None:
    database.execute("create table t (id int primary key, v text); insert into t values (1, 'a')")
    catch_up(database, standby)
    copy.sync(full("t"))
    database.execute("begin; truncate t; insert into t values (2, 'b'); commit")
    catch_up(database, standby)
    copy.sync(full("t"))
    assert copy.stored(full("t")) == [("2", "b")]


def test_a_large_table_from_a_standby(
    database: Database, standby: Standby, copy: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """A standby shares its snapshots too."""
    database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, repeat('x', 99) from generate_series(1, 5000) g; analyze t"
    )
    catch_up(database, standby)
    caplog.set_level("INFO", "pg_ingest.methods.all_rows")
    replicate(
        copy.server(chunk_rows=500), copy.destination, full("t"), database.name, max_rejected=0
    )
    assert caplog.records
    assert copy.stored(full("t")) == copy.source("select * from t")


def test_changed_ranges_on_a_standby(
    database: Database, standby: Standby, copy: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    which = differing("t")
    database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, 'x' from generate_series(1, 300) g"
    )
    catch_up(database, standby)
    copy.sync(which)
    database.execute("update t set v = 'y' where id = 7; delete from t where id = 200")
    catch_up(database, standby)
    report = copy.sync(which)
    assert (report.counts.updated, report.counts.deleted) == (1, 1)
    assert report.rows_read < 60
    assert copy.stored(which) == copy.source("select * from t")


def test_chunks_that_are_compared_on_a_standby(
    database: Database, standby: Standby, copy: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary's rows change places between chunks that the standby shows at different moments."""
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)
    database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, 'x' from generate_series(1, 400) g; analyze t"
    )
    catch_up(database, standby)
    left = [
        "update t set id = 1000 where id = 5; update t set id = 5 where id = 390",
        "delete from t where id in (6, 380); update t set v = 'y' where id in (7, 399)",
    ]

    def progress(*_: object) -> None:
        if left:
            database.execute(left.pop(0))
            catch_up(database, standby)

    which, server = differing("t"), copy.server(chunk_rows=100, load_threads=1)
    report = replicate(
        server, copy.destination, which, database.name, max_rejected=0, progress=progress
    )
    assert (report.phase, left) == ("historical", [])
    assert copy.stored(which) == copy.source("select * from t")


BY_ROW_VERSION = pytest.mark.parametrize(
    "replication", [by_xmin("t"), delta("t")], ids=["xmin", "delta_snapshot"]
)


@BY_ROW_VERSION
def test_a_late_commit_that_no_snapshot_lists(
    database: Database, standby: Standby, copy: Pair, replication: Replication
) -> None:
    """A standby's snapshot names no running transaction, but its xmin is below them all."""
    database.execute("create table t (id int primary key, v text); insert into t values (1, 'a')")
    with database.connect() as late, database.connect() as prepared:
        late.execute("begin; insert into t values (2, 'late'); savepoint s")
        late.execute("insert into t values (3, 'late')")
        prepared.execute("begin; insert into t values (4, 'late')")
        prepared.execute(f"prepare transaction '{database.name}'")
        database.execute("insert into t values (5, 'early')")
        catch_up(database, standby)
        copy.sync(replication)
        with copy.server().session(database.name) as session, session.snapshot() as seen:
            assert not seen.in_progress
            assert seen.xmin < seen.xmax
        database.execute("delete from t where id = 1; update t set v = 'b' where id = 5")
        late.execute("release s; insert into t values (6, 'late'); commit")
        catch_up(database, standby)
        copy.sync(replication)
    database.execute(f"commit prepared '{database.name}'")
    catch_up(database, standby)
    copy.sync(replication)
    there = copy.source("select * from t")
    assert [row for row in copy.stored(replication) if row[0] != "1"] == there
    assert len(copy.stored(replication)) == len(there) + (replication.method == "xmin")
    assert not copy.sync(replication).counts.changed


def test_a_standby_that_is_behind_the_primary(
    database: Database, standby: Standby, copy: Pair
) -> None:
    """What was read from the primary is not read back from a standby that does not have it yet."""
    replication = by_xmin("t")
    database.execute("create table t (id int primary key); insert into t values (1)")
    catch_up(database, standby)
    anywhere = Database("postgres", standby.host, standby.port, standby.user)
    anywhere.execute("select pg_wal_replay_pause()")
    try:
        database.execute("insert into t values (2)")
        Pair(database, copy.path).sync(replication)
        with pytest.raises(SourceBusy, match="behind what has been read"):
            copy.sync(replication)
    finally:
        anywhere.execute("select pg_wal_replay_resume()")
    database.execute("insert into t values (3)")
    catch_up(database, standby)
    report = copy.sync(replication)
    assert (report.phase, report.counts.total) == ("incremental", 3)


def test_chunks_from_a_standby(database: Database, standby: Standby, copy: Pair) -> None:
    """The position waits there until it holds for every chunk."""
    database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, 'x' from generate_series(1, 400) g; analyze t"
    )
    catch_up(database, standby)
    server = copy.server(chunk_rows=100, load_threads=2)
    report = replicate(server, copy.destination, BY_ID, database.name, max_rejected=0)
    assert report.phase == "historical"
    database.execute("insert into t values (401, 'later')")
    catch_up(database, standby)
    copy.sync(BY_ID)
    assert copy.stored(BY_ID) == copy.source("select * from t")
