"""The same tables replicated from every server version that is installed, compared row by row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest

from pg_ingest.config.model import Method, SourceConfig
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.destinations.duckdb.destination import DuckDbDestination
from pg_ingest.errors import MethodUnavailable
from pg_ingest.following.capture_log import capture_log
from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres.catalog import read_database
from pg_ingest.postgres.publication import read_publication
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.slot_creation import check_kind
from pg_ingest.table import RelationKind, TableId
from pg_ingest_tests.servers import other_servers

SERVERS = {18: embedded_binaries(), **other_servers()}

TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN price AS numeric(10, 2) CHECK (value >= 0);
CREATE TABLE items (
    id bigint PRIMARY KEY, name text, cost price, big numeric, ratio float8, day date,
    at timestamptz NOT NULL, mood mood, tags text[], extra jsonb, raw bytea, ok boolean
);
INSERT INTO items
SELECT i, CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'NULL' ELSE 'ü"''\n' || i END,
    i * 1.25, i / 7.0, i / 3.0::float8, date '2020-01-01' + i % 3000,
    timestamptz '2020-01-01 00:00+00' + i * interval '1 hour', (ARRAY['sad', 'ok'])[1 + i % 2]::mood,
    ARRAY['a,b', NULL, i::text], jsonb_build_object('i', i), decode(md5(i::text), 'hex'), i % 2 = 0
FROM generate_series(1, 2000) AS i;
CREATE TABLE measured (at date NOT NULL, value float4) PARTITION BY RANGE (at);
CREATE TABLE measured_20 PARTITION OF measured FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE measured_21 PARTITION OF measured FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
INSERT INTO measured SELECT date '2020-06-01' + i, i / 3.0 FROM generate_series(1, 500) AS i;
"""

ITEMS = (
    "SELECT id, name, cost::text, big::text, ratio, day::text,"
    ' (extract(epoch FROM "at") * 1000)::bigint,'
    " mood::text, tags{array}, extra->>'i', {hex}, ok FROM {table} ORDER BY id"
)


@pytest.fixture(scope="module", params=sorted(SERVERS), ids=lambda major: f"postgres{major}")
def server(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(binaries=SERVERS[request.param]) as cluster:
        with psycopg.connect(
            host=cluster.host, port=cluster.port, user=cluster.user, autocommit=True
        ) as connection:
            connection.execute(TABLES)
            found = connection.info.server_version // 10000
        assert found == request.param
        yield cluster


def source(cluster: Cluster) -> Server:
    config = SourceConfig.model_validate(
        {
            "host": cluster.host,
            "port": cluster.port,
            "user": cluster.user,
            "databases": ["postgres"],
            "tables": {"public.items": {"method": "full_table"}},
        }
    )
    return Server("shop", config)


def test_the_log_of_a_server_that_is_too_old(server: Cluster, tmp_path: Path) -> None:
    """It is refused before anything is made there."""
    shop = source(server)
    items = Replication("shop", TableId("public", "items"), Method.LOG_BASED, "shop", "items")
    with shop.session("postgres") as session:
        if session.server_version >= 110000:
            check_kind(session)
            return
        with pytest.raises(MethodUnavailable, match="needs PostgreSQL 11 or newer"):
            capture_log(shop, tmp_path, "postgres", [items])
        assert read_publication(session, shop.config.log.publication) is None


def test_the_catalogue_is_read(server: Cluster) -> None:
    with source(server).session("postgres") as session:
        catalog = read_database(session)
    kinds = {str(table.id): table.kind for table in catalog.tables}
    assert kinds["public.measured"] is RelationKind.PARTITIONED
    items = catalog.table(TableId("public", "items"))
    assert items is not None
    assert items.primary_key == ("id",)
    assert items.column("cost").type.name == "numeric"


@pytest.mark.parametrize("method", [Method.FULL_TABLE, Method.KEY_BASED])
def test_rows_arrive_as_they_are(server: Cluster, method: Method, tmp_path: Path) -> None:
    destination = DuckDbDestination(tmp_path / "warehouse.duckdb")
    key = "at" if method is Method.KEY_BASED else None
    items = Replication(
        "shop", TableId("public", "items"), method, "shop", "items", replication_key=key
    )
    reports = [
        replicate(source(server), destination, items, "postgres", max_rejected=0) for _ in range(2)
    ]
    assert reports[0].counts.inserted == 2000
    assert not reports[1].counts.changed
    with psycopg.connect(host=server.host, port=server.port, user=server.user) as connection:
        connection.execute("SET extra_float_digits = 3")
        expected = connection.execute(
            ITEMS.format(array="[3]", hex="encode(raw, 'hex')", table="items")  # type: ignore[arg-type]
        ).fetchall()
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        stored = connection.execute(
            ITEMS.format(array="->>2", hex="lower(hex(raw))", table="shop.items")
        ).fetchall()
    assert stored == expected


def test_a_partitioned_table_is_one_table(server: Cluster, tmp_path: Path) -> None:
    destination = DuckDbDestination(tmp_path / "warehouse.duckdb")
    measured = Replication(
        "shop", TableId("public", "measured"), Method.FULL_TABLE, "shop", "measured"
    )
    report = replicate(source(server), destination, measured, "postgres", max_rejected=0)
    assert report.counts.total == 500
