"""Every method that reads tables, from a standby of the packaged server; `test_standby.py` has the wheel's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.methods import key_ranges
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta, differing, full, keyed
from pg_ingest_tests.methods.test_standby import Standby, catch_up
from pg_ingest_tests.servers import needs_system_server, packaged

METHODS = [full("t"), keyed("t", "k"), by_xmin("t"), delta("t"), differing("t")]


@pytest.fixture(scope="module")
def pair_of_servers() -> Iterator[tuple[Database, Standby]]:
    with Cluster(binaries=packaged()) as primary:
        address = f"host={primary.host} port={primary.port} user={primary.user}"
        settings = {**primary.settings, "primary_conninfo": address}
        with Standby(binaries=packaged(), settings=settings, primary=primary) as standby:
            yield Database("postgres", primary.host, primary.port, primary.user), standby


def sync_all(standby: Standby, folder: Path, phase: str) -> None:
    """Each method into its own file; equal to what the standby shows, but for deleted rows."""
    database = Database("postgres", standby.host, standby.port, standby.user)
    for one in METHODS:
        pair = Pair(database, folder / f"{one.method}.duckdb")
        report = pair.sync(one)
        assert report.phase == ("snapshot" if one.method == "full_table" else phase)
        there, stored = pair.source("select * from t"), pair.stored(one)
        if one.method in ("xmin", "key_based"):
            keys = {row[0] for row in there}
            stored = [row for row in stored if row[0] in keys]
        assert stored == there, one.method


@needs_system_server
def test_every_method_from_a_standby(
    pair_of_servers: tuple[Database, Standby], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ranges, "LEAST_ROWS", 4)
    primary, standby = pair_of_servers
    primary.execute(
        "create sequence s; create table t (id int primary key, k bigint default nextval('s'), v text);"
        " insert into t (id, v) select g, 'x' from generate_series(1, 200) g"
    )
    catch_up(primary, standby)
    sync_all(standby, tmp_path, "snapshot")
    with primary.connect() as late:
        late.execute("begin; insert into t (id, v) values (900, 'late'); savepoint a")
        late.execute("update t set v = 'late', k = nextval('s') where id = 7")
        primary.execute(
            "insert into t (id, v) values (901, 'new'); delete from t where id = 100;"
            " update t set v = 'y', k = nextval('s') where id = 150"
        )
        catch_up(primary, standby)
        sync_all(standby, tmp_path, "incremental")
        late.execute("commit")
    catch_up(primary, standby)
    sync_all(standby, tmp_path, "incremental")
    with primary.connect() as connection:
        for statement in ("vacuum freeze t", "insert into t (id, v) values (902, 'after')"):
            connection.execute(statement)
    catch_up(primary, standby)
    sync_all(standby, tmp_path, "incremental")
