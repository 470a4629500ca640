"""Key-based reading on every server version that is installed: its questions use many catalogues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods import key_ranges
from pg_ingest.replicate import replicate
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, differing, full, keyed
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
