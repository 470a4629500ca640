"""Each way a connection can fail, against a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pg_ingest.demo.cluster import Cluster, free_port
from pg_ingest.errors import (
    LoginFailed,
    PermissionMissing,
    PgIngestError,
    SourceBusy,
    SourceUnreachable,
)
from pg_ingest.postgres.connection_faults import connection_fault
from pg_ingest_tests.postgres.conftest import LockedCluster, server_for


def _failure(locked: LockedCluster, database: str = "postgres", **settings: Any) -> PgIngestError:
    with (
        pytest.raises(PgIngestError) as caught,
        locked.server(**settings).session(database),
    ):
        raise AssertionError("connected")
    error = caught.value
    assert error.__suppress_context__
    assert "sesame" not in str(error)
    return error


def test_wrong_password(locked: LockedCluster) -> None:
    error = _failure(locked, password="open-sesame")
    assert isinstance(error, LoginFailed)
    assert "login refused for user alice on 127.0.0.1" in error.message
    assert "check `user` and `password`" in error.hint


def test_no_password(locked: LockedCluster) -> None:
    error = _failure(locked, password=None)
    assert isinstance(error, LoginFailed)
    assert "none is configured" in error.message
    assert "{env: NAME}" in error.hint


def test_unknown_user_looks_like_a_wrong_password(locked: LockedCluster) -> None:
    error = _failure(locked, user="bob")
    assert isinstance(error, LoginFailed)
    assert "login refused for user bob" in error.message


def test_unknown_role(cluster: Cluster) -> None:
    with (
        pytest.raises(LoginFailed, match="login refused for user nobody_here"),
        server_for(cluster, user="nobody_here").session("postgres"),
    ):
        raise AssertionError("connected")


def test_unknown_database(locked: LockedCluster) -> None:
    error = _failure(locked, "nosuch")
    assert isinstance(error, LoginFailed)
    assert error.message == "database nosuch does not exist on 127.0.0.1"
    assert "`databases`" in error.hint


def test_database_that_accepts_no_connections(locked: LockedCluster) -> None:
    error = _failure(locked, "closed")
    assert isinstance(error, LoginFailed)
    assert 'ALTER DATABASE "closed" ALLOW_CONNECTIONS true' in error.hint


def test_database_without_the_connect_privilege(locked: LockedCluster) -> None:
    error = _failure(locked, "private")
    assert isinstance(error, PermissionMissing)
    assert error.hint == 'GRANT CONNECT ON DATABASE "private" TO "alice";'


def test_no_line_in_pg_hba(locked: LockedCluster) -> None:
    error = _failure(locked, user="mallory")
    assert isinstance(error, LoginFailed)
    assert "pg_hba.conf on 127.0.0.1 has no entry for user mallory" in error.message
    assert "hostssl postgres mallory" in error.hint


def test_server_without_tls(locked: LockedCluster) -> None:
    error = _failure(locked, tls={"mode": "require"})
    assert isinstance(error, LoginFailed)
    assert "offers no TLS" in error.message


def test_host_unknown(locked: LockedCluster) -> None:
    error = _failure(locked, host="no-such-host.invalid")
    assert isinstance(error, SourceUnreachable)
    assert error.message == "the host no-such-host.invalid is not known"


def test_nothing_listens(locked: LockedCluster) -> None:
    port = free_port()
    error = _failure(locked, port=port)
    assert isinstance(error, SourceUnreachable)
    assert error.message == f"nothing listens on 127.0.0.1 port {port}"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_no_answer(locked: LockedCluster, silent_port: int) -> None:
    error = _failure(locked, port=silent_port, limits={"connect_timeout": 1})
    assert isinstance(error, SourceUnreachable)
    assert "does not answer" in error.message
    assert "limits.connect_timeout" in error.hint


def test_no_connection_left_for_the_role(locked: LockedCluster) -> None:
    with locked.server(user="limited", password="x").session("postgres"):
        error = _failure(locked, user="limited", password="x")
    assert isinstance(error, SourceBusy)
    assert "no connection left for user limited" in error.message


def test_no_connection_left_at_the_server(locked: LockedCluster) -> None:
    server = locked.server(limits={"connections": 10})
    opened = [server.session("postgres") for _ in range(10)]
    entered = []
    try:
        with pytest.raises(SourceBusy, match="no connection left"):
            for one in opened:
                one.__enter__()
                entered.append(one)
    finally:
        for one in entered:
            one.__exit__(None, None, None)


def test_socket_folder_without_a_server(locked: LockedCluster) -> None:
    error = _failure(locked, host="/nonexistent")
    assert isinstance(error, SourceUnreachable)
    assert "socket folder /nonexistent" in error.message


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("FATAL:  the database system is starting up", SourceUnreachable),
        ("FATAL:  the database system is shutting down", SourceUnreachable),
        ("FATAL:  the database system is not yet accepting connections", SourceUnreachable),
        ("FATAL:  no more connections allowed (max_client_conn)", SourceBusy),
        ('server certificate for "a" does not match host name "b"', LoginFailed),
        ("SSL error: certificate verify failed", LoginFailed),
        ('root certificate file "/a/ca.pem" does not exist', LoginFailed),
        ("SSL SYSCALL error: EOF detected", SourceUnreachable),
        ("server closed the connection unexpectedly", SourceUnreachable),
    ],
)
def test_texts_that_no_server_here_says_on_demand(said: str, kind: type[PgIngestError]) -> None:
    error = connection_fault(
        psycopg.OperationalError(said), host="h", port=1, user="u", database="d"
    )
    assert type(error) is kind
    assert said.split(":")[0] in error.detail


def test_names_with_braces_do_not_break_the_message() -> None:
    said = psycopg.OperationalError('FATAL:  database "{x}" does not exist')
    error = connection_fault(said, host="h", port=1, user="u{}", database="{x}")
    assert error.message == "database {x} does not exist on h"
