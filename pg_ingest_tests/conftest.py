"""A throw-away PostgreSQL for the session, a fresh database for a test."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from moto.server import ThreadedMotoServer

from pg_ingest.demo.cluster import Cluster
from pg_ingest_tests import certificates, servers
from pg_ingest_tests.certificates import TlsServer

_numbers = itertools.count(1)

# How long an example takes says more about the machine than about us.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Ctrl-C works in here, and in child processes, even where the shell that started us ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    return servers.describe()


@dataclass(frozen=True)
class Database:
    """One fresh database of the session's server."""

    name: str
    host: str
    port: int
    user: str

    def connect(self, **options: Any) -> psycopg.Connection:
        options = {"dbname": self.name, "user": self.user, "autocommit": True, **options}
        return psycopg.connect(host=self.host, port=self.port, **options)

    def execute(self, statement: str, *parameters: Any) -> None:
        with self.connect() as connection:
            connection.execute(statement, parameters or None)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(query, parameters or None).fetchall()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster(settings={"max_connections": "50", "max_prepared_transactions": "10"}) as running:
        yield running


@pytest.fixture(scope="session")
def amazon() -> Iterator[str]:
    """The address of a local server that speaks the protocols of AWS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def tls_server() -> Iterator[TlsServer]:
    """For tests marked `needs_system_server`."""
    with certificates.tls_server() as running:
        yield running


@pytest.fixture(scope="session")
def wal2json_cluster() -> Iterator[Cluster]:
    """The packaged server; tests that ask for it are marked with `needs_system_server`."""
    settings = {"max_connections": "50", "max_prepared_transactions": "10"}
    settings |= servers.wal2json_settings()
    with Cluster(binaries=servers.packaged(), settings=settings) as running:
        yield running


@pytest.fixture
def wal2json_database(wal2json_cluster: Cluster) -> Iterator[Database]:
    """A fresh database there."""
    yield from fresh(wal2json_cluster)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    yield from fresh(cluster)


def fresh(cluster: Cluster) -> Iterator[Database]:
    """A database of its own, dropped at the end."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute(f"create database {name} template template0")
    yield Database(name, cluster.host, cluster.port, cluster.user)
    admin.execute(f"drop database {name} with (force)")
