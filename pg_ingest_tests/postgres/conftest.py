"""Servers and roles for the tests of pg_ingest.postgres."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pg_ingest.config.model import Limits, Secret, SourceConfig
from pg_ingest.demo.cluster import Cluster
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.servers import other_servers

_numbers = itertools.count(1)


def server_for(database: Database | Cluster, **settings: Any) -> Server:
    """A Server for that host that does not retry; `limits` as a dict, other keys as in the file."""
    limits = Limits(**settings.pop("limits", {}))
    chosen: dict[str, Any] = {
        "host": database.host,
        "port": database.port,
        "user": database.user,
        "databases": (getattr(database, "name", "postgres"),),
        **settings,
    }
    return Server("shop", SourceConfig(limits=limits, **chosen), retry_delays=())


@pytest.fixture
def server(database: Database) -> Server:
    return server_for(database)


@pytest.fixture
def session(server: Server, database: Database) -> Iterator[Session]:
    with server.session(database.name) as opened:
        yield opened


@pytest.fixture
def visitor(cluster: Cluster) -> Iterator[Session]:
    """A session for a test that needs no table of its own."""
    with server_for(cluster).session("postgres") as opened:
        yield opened


@pytest.fixture(scope="module")
def filtered(cluster: Cluster) -> Iterator[Session]:
    """A session where `public.orders` has 1,000 rows that no test changes."""
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    name = f"filtered{os.getpid()}"
    admin.execute(f"create database {name} template template0")
    there = Database(name, cluster.host, cluster.port, cluster.user)
    there.execute('create table orders (id int primary key, note text, "weird%name" int)')
    there.execute("insert into orders select g, 'n' || g from generate_series(1, 1000) g")
    with server_for(there).session(name) as opened:
        yield opened
    admin.execute(f"drop database {name}")


@dataclass(frozen=True)
class Role:
    """A fresh role that may log in and nothing else."""

    name: str
    database: Database

    @property
    def server(self) -> Server:
        return server_for(self.database, user=self.name)


@pytest.fixture
def role(database: Database) -> Iterator[Role]:
    name = f"r{os.getpid()}_{next(_numbers)}"
    database.execute(f"create role {name} login")
    yield Role(name, database)
    database.execute(f"drop owned by {name}")
    database.execute(f"drop role {name}")


@dataclass(frozen=True)
class LockedCluster:
    """A server that asks `alice` for the password `secret-sesame` and lets `nobody_here` in nowhere."""

    cluster: Cluster

    def server(self, **settings: Any) -> Server:
        given = {"user": "alice", "password": Secret("secret-sesame"), **settings}
        return server_for(self.cluster, **given)


@pytest.fixture(scope="session")
def locked() -> Iterator[LockedCluster]:
    with Cluster(settings={"max_connections": "6", "password_encryption": "scram-sha-256"}) as own:
        rules = [
            f"host all {own.user} 127.0.0.1/32 trust",
            "host all alice,bob,limited 127.0.0.1/32 scram-sha-256",
        ]
        (own.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        with psycopg.connect(
            host=own.host, port=own.port, user=own.user, dbname="postgres", autocommit=True
        ) as admin:
            admin.execute("create role alice login password 'secret-sesame'")
            admin.execute("create role bob nologin password 'secret-sesame'")
            admin.execute("create role limited login password 'x' connection limit 1")
            admin.execute("create database closed allow_connections false")
            admin.execute("create database private")
            admin.execute("revoke connect on database private from public")
            admin.execute("select pg_reload_conf()")
        yield LockedCluster(own)


@pytest.fixture(scope="session", params=[18, *other_servers()])
def any_version(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Cluster]:
    """A server of each major version that is installed."""
    if request.param == 18:
        yield cluster
    else:
        with Cluster(binaries=other_servers()[request.param]) as running:
            yield running
