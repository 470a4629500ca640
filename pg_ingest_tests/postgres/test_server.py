"""Servers: how many sessions, and what is tried again."""

from __future__ import annotations

import threading

import psycopg
import pytest

from pg_ingest.demo.cluster import free_port
from pg_ingest.errors import PermissionMissing, SourceUnreachable
from pg_ingest.postgres import server as server_module
from pg_ingest.postgres.server import Server
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for


def test_no_more_sessions_than_the_limit(database: Database) -> None:
    server = server_for(database, limits={"connections": 2})
    third_open = threading.Event()

    def third() -> None:
        with server.session(database.name):
            third_open.set()

    with server.session(database.name), server.session(database.name):
        waiting = threading.Thread(target=third)
        waiting.start()
        assert not third_open.wait(0.3)
        ours = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_ingest/shop/%'"
        )
        assert database.rows(ours + f" AND datname = '{database.name}'") == [(2,)]
    assert third_open.wait(10)
    waiting.join(10)


def test_a_failed_connection_gives_its_place_back(database: Database) -> None:
    server = server_for(database, limits={"connections": 1}, port=free_port())
    for _ in range(2):
        with pytest.raises(SourceUnreachable), server.session(database.name):
            raise AssertionError("connected")


def test_passing_faults_are_retried(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def flaky(source: str, config: object, name: str, purpose: str) -> psycopg.Connection:
        tries.append(name)
        if len(tries) < 3:
            raise SourceUnreachable("away")
        return psycopg.connect(
            host=database.host, port=database.port, user=database.user, dbname=name, autocommit=True
        )

    monkeypatch.setattr(server_module, "open_connection", flaky)
    server = Server("shop", server_for(database).config, retry_delays=(0.01, 0.01, 0.01))
    with server.session(database.name) as session:
        assert session.rows("SELECT 1") == [(1,)]
    assert len(tries) == 3


def test_what_a_person_must_fix_is_not_retried(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def refused(*_: object) -> psycopg.Connection:
        tries.append("once")
        raise PermissionMissing("no")

    monkeypatch.setattr(server_module, "open_connection", refused)
    server = Server("shop", server_for(database).config, retry_delays=(0.01, 0.01))
    with pytest.raises(PermissionMissing), server.session(database.name):
        raise AssertionError("connected")
    assert tries == ["once"]
