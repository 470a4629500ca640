"""The one loop: what a load reports, and that whatever ends it early leaves everything as it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.batch import LoadReport
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.duckdb.stage import DuckDbStage
from pg_ingest.errors import (
    DestinationFailed,
    LoginFailed,
    MethodUnavailable,
    SourceTableChanged,
    SourceUnreachable,
    TooManyRejected,
)
from pg_ingest.loading import replicate as replicate_module
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods.registry import reader_for
from pg_ingest.progress import Progress
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, full, keyed

FIFTY_THOUSAND = (
    "create table t (id int primary key, v text);"
    " insert into t select g, repeat('x', 400) from generate_series(1, 50000) g"
)


@pytest.fixture
def pair(database: Database, tmp_path: Path) -> Pair:
    return Pair(database, tmp_path / "warehouse.duckdb")


def test_a_report_counts_what_travelled(pair: Pair) -> None:
    pair.database.execute(FIFTY_THOUSAND)
    (size,) = pair.database.rows("select sum(length(t::text) - 2 + 1) from t")[0]
    report = pair.sync(full("t"), run_id="run-1")
    assert report.rows_read == report.counts.inserted == report.counts.total == 50000
    assert report.bytes_read == size
    assert 0 < report.duration_s < 60
    (status,) = pair.destination.status()
    assert status.last_load["run_id"] == "run-1"
    assert status.last_load["method"] == "full_table"


def test_progress_comes_now_and_then(pair: Pair) -> None:
    pair.database.execute(FIFTY_THOUSAND)
    seen: list[Progress] = []
    report = pair.sync(full("t"), progress=seen.append)
    assert seen
    assert len(seen) <= 1 + report.duration_s / 0.5
    assert 0 < seen[0].rows <= 50000
    assert 0 < seen[0].bytes <= report.bytes_read


def test_the_log_says_what_was_done_and_no_values(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.database.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'hush')"
    )
    with caplog.at_level(logging.DEBUG, logger="pg_ingest"):
        pair.sync(full("t"))
    assert f"table=shop/{pair.database.name}/public.t method=full_table" in caplog.text
    assert "rows=1" in caplog.text
    assert "hush" not in caplog.text


def test_an_error_in_the_listener_ends_the_load_and_changes_nothing(pair: Pair) -> None:
    pair.database.execute(FIFTY_THOUSAND)
    pair.sync(full("t"))
    pair.database.execute("truncate t; insert into t values (1, 'new')")

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair.sync(full("t"), progress=stop)
    assert pair.stored(full("t"), "count(*)") == [(50000,)]


def test_too_many_rejected_rows_change_nothing(pair: Pair) -> None:
    pair.database.execute("create table t (id int primary key, n numeric(9, 2))")
    pair.database.execute("insert into t values (1, 1.5)")
    pair.sync(full("t"))
    pair.database.execute("insert into t values (2, 'NaN'), (3, 2.5)")
    with pytest.raises(TooManyRejected):
        pair.sync(full("t"), max_rejected=0)
    assert pair.stored(full("t"), "id") == [(1,)]
    report = pair.sync(full("t"), max_rejected=1)
    assert (report.counts.total, report.counts.rejected, report.rows_read) == (2, 1, 3)


def test_an_unknown_database_or_server(pair: Pair) -> None:
    with pytest.raises(LoginFailed, match="does not exist"):
        replicate(pair.server(), pair.destination, full("t"), "nowhere", max_rejected=0)
    assert not pair.path.exists()
    gone = Pair(Database(pair.database.name, "127.0.0.1", 1, "postgres"), pair.path)
    server = type(gone.server())("shop", gone.server().config, retry_delays=())
    with pytest.raises(SourceUnreachable):
        replicate(server, pair.destination, full("t"), pair.database.name, max_rejected=0)


def test_a_table_that_goes_between_the_look_and_the_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.database.execute("create table t (id int); insert into t values (1)")
    pair.sync(full("t"))
    describe = replicate_module.describe

    def look_then_drop(session: Any, table: Any) -> Any:
        found = describe(session, table)
        pair.database.execute("drop table t")
        return found

    monkeypatch.setattr(replicate_module, "describe", look_then_drop)
    with pytest.raises(SourceTableChanged):
        pair.sync(full("t"))
    assert pair.stored(full("t")) == [("1",)]


def test_log_based_tables_have_no_reader_of_their_own() -> None:
    method = type(full("t").method)("log_based")
    with pytest.raises(MethodUnavailable, match="does not read single tables"):
        reader_for(method)


def test_two_databases_in_one_table(pair: Pair, cluster: Any) -> None:
    other = Pair(
        Database(f"{pair.database.name}_b", cluster.host, cluster.port, cluster.user), pair.path
    )
    pair.database.execute(f"create database {other.database.name} template template0")
    try:
        for number, each in enumerate((pair, other)):
            each.database.execute(
                f"create table t (id int primary key); insert into t values ({number}), (7)"
            )
        replication = keyed("t", "id", shared=True)
        for each in (pair, other):
            each.sync(replication)
        assert pair.stored(replication, "id") == [(0,), (1,), (7,), (7,)]
        other.database.execute("insert into t values (8)")
        assert other.sync(replication).counts.total == 3
        pair.sync(replication, reset=True)
        assert pair.stored(replication, "id") == [(0,), (1,), (7,), (7,), (8,)]
    finally:
        pair.database.execute(f"drop database {other.database.name} with (force)")


KILLED = """
import os, signal, sys
from pathlib import Path
from pg_ingest.destinations.duckdb import commit, stage
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, full, keyed

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

name, host, port, user, path, moment, method = sys.argv[1:]
pair = Pair(Database(name, host, int(port), user), Path(path))
replication = full("t") if method == "full" else keyed("t", "id")
if moment == "before the commit":
    stage.DuckDbStage.commit = die
elif moment == "inside the commit":
    stage.ledger.record = die
pair.sync(replication, progress=die if moment == "while staging" else None)
"""


@pytest.mark.parametrize("method", ["full", "keyed"])
@pytest.mark.parametrize("moment", ["while staging", "before the commit", "inside the commit"])
def test_a_kill_changes_nothing_and_the_next_run_does_it_all(
    pair: Pair, moment: str, method: str
) -> None:
    replication: Replication = full("t") if method == "full" else keyed("t", "id")
    pair.database.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'a')"
    )
    pair.sync(replication)
    old, bookmark = pair.stored(replication), pair.bookmark(replication)
    pair.database.execute("insert into t values (2, 'b'), (3, 'c')")
    where = pair.database
    address = (where.name, where.host, str(where.port), where.user)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, *address, str(pair.path), moment, method],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        timeout=60,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert pair.stored(replication) == old
    assert pair.bookmark(replication) == bookmark
    report: LoadReport = pair.sync(replication)
    assert report.counts.total == 3
    assert pair.stored(replication) == pair.source("select * from t")
    assert not pair.sync(replication).counts.changed


def test_a_commit_that_fails_changes_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.database.execute("create table t (id int primary key); insert into t values (1)")
    pair.sync(full("t"))
    pair.database.execute("insert into t values (2)")

    def fail(*_: Any) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr(DuckDbStage, "_report", fail)
    with pytest.raises(DestinationFailed, match="no room left"):
        pair.sync(full("t"))
    monkeypatch.undo()
    assert pair.stored(full("t")) == [("1",)]
    assert pair.sync(full("t")).counts.total == 2
