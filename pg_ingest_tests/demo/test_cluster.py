from __future__ import annotations

from pg_ingest.demo.cluster import Cluster
from pg_ingest_tests.conftest import Database


def test_a_fresh_database_answers(database: Database) -> None:
    assert database.rows("select 1, current_setting('wal_level')") == [(1, "logical")]


def test_leaving_the_cluster_leaves_nothing() -> None:
    with Cluster() as cluster:
        directory = cluster.directory
        assert (directory / "data" / "postmaster.pid").exists()
    assert not directory.exists()
