"""Transaction ids near the end of their 32 bits, and beyond: on a server whose counter was moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.bookmark import XminBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.errors import PermissionMissing
from pg_ingest.postgres import row_versions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta
from pg_ingest_tests.servers import system_server

SERVERS = {"18": embedded_binaries(), "packaged": system_server()}
SEGMENT = 1 << 20
"""Transactions whose outcome one file of pg_xact holds."""

BEFORE_THE_END = (1 << 32) - 60

pytestmark = pytest.mark.usefixtures("flushed_at_once")


@pytest.fixture(scope="module", params=sorted(SERVERS))
def moved(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    binaries = SERVERS[request.param]
    if binaries is None:
        pytest.skip("no packaged PostgreSQL")
    with Cluster(binaries=binaries, settings={"autovacuum": "off"}) as running:
        yield running


def pair_of(cluster: Cluster, tmp_path: Path) -> Pair:
    database = Database("postgres", cluster.host, cluster.port, cluster.user)
    database.execute("drop schema public cascade; create schema public")
    return Pair(database, tmp_path / "warehouse.duckdb")


def move(cluster: Cluster, counter: int) -> None:
    """Let the next transaction have this id. At most 2^31 on, or rows of the past become the future."""
    address = ("-h", cluster.host, "-p", cluster.port, "-U", cluster.user)
    cluster._run("vacuumdb", "--freeze", "--all", "--quiet", *address)
    cluster.stop("fast")
    outcomes = cluster.data / "pg_xact" / f"{counter // SEGMENT:04X}"
    outcomes.write_bytes(bytes(SEGMENT // 4))
    cluster._own(outcomes)
    cluster._run("pg_resetwal", "-D", cluster.data, "-x", counter)
    cluster.start()


def consume(pair: Pair, transactions: int) -> None:
    with pair.database.connect() as connection:
        for _ in range(transactions):
            connection.execute("select txid_current()")


def mark(pair: Pair, replication: Replication) -> XminBookmark:
    bookmark = pair.bookmark(replication)
    assert isinstance(bookmark, XminBookmark)
    return bookmark


def test_the_ids_run_out_and_begin_anew(moved: Cluster, tmp_path: Path) -> None:
    """A table of every age: rows from before 2^31 ids, from just before the end, and from after it."""
    pair = pair_of(moved, tmp_path)
    database = pair.database
    xmin, by_keys = by_xmin("t"), delta("u")
    database.execute(
        "create table t (id int primary key, v text); create table u (id int primary key, v text);"
        " insert into t select g, 'old' from generate_series(1, 20) g; insert into u table t"
    )
    both = (xmin, by_keys)
    for one in both:
        pair.sync(one)
    for counter in (1_500_000_000, 3_000_000_000, BEFORE_THE_END):
        move(moved, counter)
    for one in both:
        report = pair.sync(one)
        assert "transaction ids were given out since" in report.notes[0]
        assert mark(pair, one).xmin == BEFORE_THE_END
        assert pair.sync(one).rows_read == 0

    def write(statement: str) -> None:
        for table in "tu":
            database.execute(statement.replace("TABLE", table))

    write("insert into TABLE select g, 'end' from generate_series(101, 105) g")
    with database.connect() as late:
        late.execute("begin; insert into t values (200, 'late'); savepoint s")
        late.execute("insert into t values (201, 'late')")
        assert [pair.sync(one).counts.inserted for one in both] == [5, 5]
        consume(pair, 80)
        write("insert into TABLE select g, 'new' from generate_series(301, 305) g")
        write("update TABLE set v = 'changed' where id in (1, 101, 301)")
        write("delete from TABLE where id in (2, 102, 302)")
        assert mark(pair, xmin).xmin < 1 << 32
        assert [pair.sync(one).counts.updated for one in both] == [2, 2]
        late.execute("insert into t values (202, 'late'); commit")
    for one in both:
        pair.sync(one)
        assert mark(pair, one).xmin > 1 << 32
        assert pair.sync(one).rows_read == 0
    for table in "tu":
        database.execute(f"vacuum freeze {table}")
    write("insert into TABLE values (400, 'frozen soon')")
    write("vacuum freeze TABLE")
    assert [pair.sync(one).counts.inserted for one in both] == [1, 1]
    assert pair.stored(by_keys) == pair.source("select * from u")
    kept = [row for row in pair.stored(xmin) if row[0] not in ("2", "102")]
    assert kept == pair.source("select * from t")


def test_a_counter_that_went_back(moved: Cluster, tmp_path: Path) -> None:
    replication = delta("t")
    pair = pair_of(moved, tmp_path)
    pair.database.execute("create table t (id int primary key); insert into t values (1)")
    consume(pair, 30)
    pair.sync(replication)
    first = mark(pair, replication).xmax % row_versions.IDS
    moved.stop("fast")
    moved._run("pg_resetwal", "-D", moved.data, "-x", first - 20)
    moved.start()
    pair.database.execute("insert into t values (2)")
    report = pair.sync(replication)
    assert "the transaction counter went back" in report.notes[0]
    assert pair.stored(replication) == [("1",), ("2",)]
    consume(pair, 30)


def test_another_timeline(moved: Cluster, tmp_path: Path) -> None:
    """What a promotion or a restore leaves behind, and nothing else here."""
    pair = pair_of(moved, tmp_path)
    replication = by_xmin("t")
    pair.database.execute("create table t (id int primary key); insert into t values (1)")
    pair.sync(replication)
    ((wal,),) = pair.database.rows("select pg_walfile_name(pg_current_wal_insert_lsn())")
    number = int(wal[:8], 16)
    moved.stop("fast")
    newer = f"{number + 1:08X}{wal[8:16]}{int(wal[16:], 16) + 4:08X}"
    moved._run("pg_resetwal", "-D", moved.data, "-l", newer)
    moved.start()
    report = pair.sync(replication)
    assert "another timeline" in report.notes[0]
    assert pair.sync(replication).phase == "incremental"


def test_another_server(moved: Cluster, cluster: Cluster, tmp_path: Path) -> None:
    """Behind the same name stands a server that has counted further and knows other rows."""
    replication = delta("moved_here")
    pair = pair_of(moved, tmp_path)
    pair.database.execute(
        "create table moved_here (id int primary key); insert into moved_here values (1)"
    )
    pair.sync(replication)
    there = Pair(Database("postgres", cluster.host, cluster.port, cluster.user), pair.path)
    there.database.execute(
        "create table moved_here (id int primary key); insert into moved_here values (2)"
    )
    try:
        report = there.sync(replication)
        assert "another server (system identifier)" in report.notes[0]
        assert there.stored(replication) == [("2",)]
    finally:
        there.database.execute("drop table moved_here")


@pytest.mark.parametrize(
    "statement",
    ["vacuum full t", "cluster t using t_pkey", "alter table t alter v type text using v || 'z'"],
)
def test_a_rewritten_table(moved: Cluster, tmp_path: Path, statement: str) -> None:
    pair = pair_of(moved, tmp_path)
    replication = by_xmin("t")
    pair.database.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')"
    )
    pair.sync(replication)
    pair.database.execute(statement)
    report = pair.sync(replication)
    assert report.phase == "snapshot"
    assert "has another file" in report.notes[0]
    assert pair.stored(replication) == pair.source("select * from t")


def test_single_columns_without_the_hidden_one(moved: Cluster, tmp_path: Path) -> None:
    """What the message tells to run is what is missing."""
    pair = pair_of(moved, tmp_path)
    replication = by_xmin("t")
    pair.database.execute(
        "create table t (id int primary key, v text); insert into t values (1, 'a');"
        " drop role if exists narrow; create role narrow login;"
        " grant usage on schema public to narrow; grant select (id, v) on t to narrow"
    )
    with pytest.raises(PermissionMissing) as refused:
        pair.sync(replication, user="narrow")
    assert "hidden columns may not be read by role narrow: xmin" in refused.value.message
    assert "only some columns of the table are granted" in refused.value.detail
    pair.database.execute(refused.value.hint.partition(";")[0])
    assert pair.sync(replication, user="narrow").counts.total == 1
