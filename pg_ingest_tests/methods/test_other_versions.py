"""Key-based reading on every server version that is installed: its questions use many catalogues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.errors import MethodUnavailable
from pg_ingest.loading import chunked_load
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import key_ranges
from pg_ingest.postgres import row_versions
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed
from pg_ingest_tests.servers import other_servers

SERVERS = other_servers() or {18: embedded_binaries()}


@pytest.fixture(scope="module", params=sorted(SERVERS), ids=lambda major: f"postgres{major}")
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    settings = {"max_prepared_transactions": "2"}
    with Cluster(binaries=SERVERS[request.param], settings=settings) as running:
        yield running


@pytest.fixture
def pair(elsewhere: Cluster, tmp_path: Path) -> Pair:
    database = Database("postgres", elsewhere.host, elsewhere.port, elsewhere.user)
    database.execute("drop schema public cascade; create schema public")
    return Pair(database, tmp_path / "warehouse.duckdb")


def test_late_commits_and_prepared_transactions(pair: Pair) -> None:
    replication = keyed("t", "k")
    pair.database.execute(
        "create table t (id int primary key, k numeric);"
        " insert into t values (1, 1), (2, null), (3, 'NaN')"
    )
    pair.sync(replication)
    assert pair.position(replication) == "1"
    with pair.database.connect() as late, pair.database.connect() as prepared:
        late.execute("begin")
        late.execute("insert into t values (4, 2)")
        prepared.execute("begin")
        prepared.execute("insert into t values (5, 3)")
        pair.database.execute("insert into t values (6, 4)")
        pair.sync(replication)
        prepared.execute("prepare transaction 'held'")
        late.execute("commit")
        report = pair.sync(replication)
    assert "1 prepared transactions" in report.notes[0]
    assert pair.position(replication) == "1"
    pair.database.execute("commit prepared 'held'")
    pair.sync(replication)
    assert pair.position(replication) == "4"
    assert pair.stored(replication, "id") == [(number,) for number in range(1, 7)]


def test_sequences_views_and_a_rewrite(pair: Pair) -> None:
    pair.database.execute(
        "create sequence wide cache 5; create table t (id int primary key default nextval('wide'));"
        " create materialized view m as select 1 as id; create view v as select * from m"
    )
    with pytest.raises(MethodUnavailable, match="ascending order"):
        pair.sync(keyed("t", "id"))
    assert "public.m" in pair.sync(keyed("v", "id", key=("id",))).notes[0]
    pair.database.execute(
        "insert into t select generate_series(1, 9); alter table t alter id type bigint"
    )
    assert pair.sync(full("t")).counts.total == 9


def test_a_large_table_is_read_by_several(
    pair: Pair, elsewhere: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Ranges of pages need version 14; an older server's table is read by one connection."""
    pair.database.execute(
        "create table t (id int primary key, v text);"
        " insert into t select g, repeat('x', 99) from generate_series(1, 5000) g; analyze t"
    )
    caplog.set_level("INFO", "pg_ingest.methods.all_rows")
    with pair.database.connect() as connection:
        version = connection.info.server_version
    server = pair.server(chunk_rows=500)
    replicate(server, pair.destination, full("t"), "postgres", max_rejected=0)
    assert pair.stored(full("t")) == pair.source("select * from t")
    assert bool(caplog.records) == (version >= 140000)


def test_changed_ranges(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    which = differing("t")
    pair.database.execute(
        "create table t (a text, b numeric(5), v numeric(9,2), w json, at timestamptz, primary key (a, b));"
        " insert into t select chr(97 + g % 3), g, g, '1', 'epoch' from generate_series(1, 400) g"
    )
    pair.sync(which)
    pair.database.execute(
        "update t set v = -v where b = 7; update t set w = '1.0' where b = 8;"
        " delete from t where b = 200; update t set a = a || 'ü' where b = 300"
    )
    report = pair.sync(which)
    assert (report.counts.inserted, report.counts.updated, report.counts.deleted) == (1, 2, 2)
    assert report.rows_read < 120
    assert pair.stored(which, "a, b::varchar, v::varchar, w::varchar") == pair.source(
        "select a, b, v, w from t"
    )
    assert pair.sync(which).rows_read == 0


def test_chunks_that_are_compared(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows change places while chunks are read; texts as the server's collation orders them, and as bytes."""
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    monkeypatch.setattr(chunked_load, "PROGRESS_SECONDS", 0.0)
    pair.database.execute(
        "create table t (a text, b int, v text, primary key (a, b));"
        " insert into t select chr(65 + g % 60) || g, g, 'x' from generate_series(1, 400) g; analyze t"
    )
    left = [
        "update t set a = 'ä' || a where b in (7, 377)",
        "delete from t where b in (8, 300); insert into t values ('', 0, 'n'), ('zz', 0, 'n')",
        "update t set v = 'y', b = -b where b % 50 = 0",
    ]

    def progress(*_: object) -> None:
        if left:
            pair.database.execute(left.pop(0))

    which = differing("t")
    server = pair.server(chunk_rows=100, load_threads=1)
    report = replicate(
        *(server, pair.destination, which, "postgres"), max_rejected=0, progress=progress
    )
    assert report.phase == "historical"
    assert pair.stored(which) == pair.source("select * from t")
    assert pair.sync(which).rows_read == 0


def test_row_versions_and_deletes(pair: Pair) -> None:
    seen, exact, grouped = by_xmin("t"), delta("u"), delta("w", update_key=("id",))
    tables = (("t", seen), ("u", exact), ("w", grouped))
    for name, replication in tables:
        key = "" if name == "w" else "primary key"
        pair.database.execute(
            f"create table {name} (id int {key}, v text);"
            f" insert into {name} select g, 'a' from generate_series(1, 50) g"
        )
        pair.sync(replication)
    with pair.database.connect() as late:
        late.execute("begin")
        for name, _ in tables:
            late.execute(f"insert into {name} values (100, 'late')")
        for name, replication in tables:
            pair.database.execute(
                f"delete from {name} where id = 1; update {name} set v = 'b' where id = 2;"
                f" insert into {name} values (60, 'n')"
            )
            pair.sync(replication)
        late.execute("commit")
    for name, replication in tables:
        pair.sync(replication)
        there = pair.source(f"select * from {name}")
        stored = pair.stored(replication)
        assert [row for row in stored if name != "t" or row[0] != "1"] == there
        pair.database.execute(f"vacuum full {name}")
        report = pair.sync(replication)
        assert "has another file" in report.notes[0]
        assert pair.stored(replication) == there


def test_partitions_and_rights(pair: Pair) -> None:
    """The questions about partitions, rights and the server's history, in each version's catalogue."""
    pair.database.execute(
        "drop role if exists plain; create role plain login;"
        " create table t (id int, v text) partition by range (id);"
        " create table t1 partition of t for values from (0) to (100);"
        " create table t2 partition of t for values from (100) to (200);"
        " insert into t select g, 'a' from generate_series(1, 199) g;"
        " grant usage on schema public to plain; grant select (id, v, xmin, tableoid) on t to plain"
    )
    replication = delta("t", key=("id",))
    pair.sync(replication, user="plain")
    pair.database.execute("alter table t detach partition t2; insert into t values (0, 'n')")
    report = pair.sync(replication, user="plain")
    assert (report.phase, report.counts.inserted, report.counts.deleted) == ("incremental", 1, 100)
    assert pair.stored(replication) == pair.source("select * from t")
    pair.database.execute("alter table t attach partition t2 for values from (100) to (200)")
    assert pair.sync(replication, user="plain").counts.inserted == 100
    with pair.server("plain").session(pair.database.name) as session:
        assert len(row_versions.server_of(session).split("/")) == 3
        assert row_versions.durable_id(session) > 0
