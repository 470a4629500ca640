"""Connections through a tunnel: shared, reopened, refused; and that only this process can use it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from pg_ingest.config.secret import Secret
from pg_ingest.errors import LoginFailed, SourceUnreachable, TunnelRefused
from pg_ingest.tunnel import tunnel as tunnel_module
from pg_ingest.tunnel.passage import passage, probe
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.servers import needs_sshd
from pg_ingest_tests.sshd import Sshd
from pg_ingest_tests.tunnel.conftest import answers, through

pytestmark = needs_sshd

NOBODY = 1
"""A port of 127.0.0.1 where nothing listens."""


def test_many_connections_share_one_login(bastion: Sshd, database: Database) -> None:
    ssh, before = bastion.config(), bastion.logins.count

    def backend(_: int) -> int:
        with through(ssh, database) as connection:
            barrier.wait(20)
            return int(connection.info.backend_pid)

    barrier = threading.Barrier(6)
    with ThreadPoolExecutor(6) as threads:
        backends = set(threads.map(backend, range(6)))
    assert len(backends) == 6
    assert answers(bastion.config(), Database("postgres", *_of(database)))
    assert bastion.logins.count == before + 1


def _of(database: Database) -> tuple[str, int, str]:
    return database.host, database.port, database.user


def test_a_login_that_fails_behind_a_jump_host_is_no_loss(
    bastion: Sshd, second: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    jump = [bastion.config().model_dump(exclude={"jump", "keepalive"})]
    with pytest.raises(LoginFailed, match=f"SSH server 127.0.0.1:{second.port}"):
        probe(second.config(private_key=str(bastion.client), jump=jump), seconds=10)
    assert "was lost" not in caplog.text


def test_a_failed_login_is_shared_by_who_waits_for_it(
    bastion: Sshd, second: Sshd, database: Database
) -> None:
    ssh = bastion.config(private_key=str(second.client))
    barrier = threading.Barrier(4)

    def attempt(_: int) -> type[BaseException] | None:
        barrier.wait(20)
        try:
            through(ssh, database).close()
        except LoginFailed as error:
            return type(error)
        return None

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(attempt, range(4))) == {LoginFailed}


def test_much_data_both_ways(second: Sshd, database: Database) -> None:
    """With new session keys every few megabytes, as after a gigabyte otherwise."""
    second.restart("RekeyLimit 4M")
    database.execute("create table t (v bytea)")
    block = os.urandom(1 << 20)
    with through(second.config(), database) as connection, connection.cursor() as cursor:
        with cursor.copy("copy t from stdin (format binary)") as copy:
            for _ in range(24):
                copy.write_row((block,))
        assert cursor.execute("select count(*), count(distinct v) from t").fetchone() == (24, 1)
        with cursor.copy("copy t to stdout (format binary)") as copy:
            copy.set_types(["bytea"])
            for row in copy.rows():
                assert row == (block,)


def test_a_reader_that_pauses(bastion: Sshd, database: Database) -> None:
    """Nothing is lost, and what has come does not pile up in memory: the server has to wait."""
    sent = "select state, wait_event from pg_stat_activity where query like 'copy (select repeat%'"
    with through(bastion.config(), database) as connection:
        query = "copy (select repeat('x', 1000) from generate_series(1, 40000)) to stdout"
        with connection.cursor().copy(query) as copy:
            read = len(copy.read())
            deadline = time.monotonic() + 20
            while database.rows(sent) != [("active", "ClientWrite")]:
                assert time.monotonic() < deadline
            read += sum(map(len, copy))
    assert read == 40000 * 1001


def test_a_query_is_cancelled_through_the_tunnel(bastion: Sshd, database: Database) -> None:
    with through(bastion.config(), database) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60)")
        timer.join()


def test_jump_hosts(bastion: Sshd, second: Sshd, database: Database) -> None:
    ssh = second.config(jump=[bastion.config().model_dump(exclude={"jump", "keepalive"})])
    assert answers(ssh, database)
    assert [hop.address for hop in probe(ssh, seconds=10)] == [
        f"127.0.0.1:{bastion.port}",
        f"127.0.0.1:{second.port}",
    ]
    second.restart()
    before = len(bastion.sessions())
    assert answers(ssh, database)
    deadline = time.monotonic() + 10
    while len(bastion.sessions()) > before:
        assert time.monotonic() < deadline, "the old connection to the first server is still there"
    nowhere = second.config(port=NOBODY, jump=ssh.jump)
    with pytest.raises(SourceUnreachable) as caught:
        probe(nowhere, seconds=10)
    words = (
        f"the SSH server 127.0.0.1:{bastion.port} was reached, but 127.0.0.1:1 was not from there"
    )
    assert caught.value.message == words


def test_through_a_folder_of_sockets(bastion: Sshd, cluster: Any) -> None:
    there = Database("postgres", str(cluster.directory), cluster.port, cluster.user)
    with passage(bastion.config(), there.host, there.port, seconds=10) as way:
        options = {"hostaddr": way.address, "port": way.port, "user": there.user}
        with psycopg.connect(host="localhost", dbname="postgres", **options) as connection:
            answer = connection.execute("select inet_client_addr() is null").fetchone()
    assert answer == (True,)


@pytest.mark.parametrize(
    "setting", ["AllowTcpForwarding no", "PermitOpen 127.0.0.1:1", "DisableForwarding yes"]
)
def test_forwarding_is_forbidden(second: Sshd, database: Database, setting: str) -> None:
    second.restart(setting)
    with pytest.raises(TunnelRefused) as caught:
        through(second.config(), database)
    onwards = f"127.0.0.1:{database.port}"
    assert caught.value.message.endswith(f"through to {onwards}")
    assert f"PermitOpen {onwards}" in caught.value.hint


def test_a_database_that_is_down_or_unknown(bastion: Sshd) -> None:
    for host, words in (("127.0.0.1", "refused"), ("nowhere.invalid", "not known")):
        with pytest.raises(SourceUnreachable) as caught:
            through(bastion.config(), Database("x", host, NOBODY, "x"))
        assert "was reached, but" in caught.value.message
        assert words in caught.value.detail


@contextmanager
def silence() -> Any:
    """A port that accepts and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_an_ssh_server_that_does_not_answer(bastion: Sshd) -> None:
    for host in ("127.0.0.1", "localhost"):  # a name of two addresses, where there is IPv6
        with pytest.raises(SourceUnreachable, match=rf"no SSH server listens on {host}:1\b"):
            probe(bastion.config(host=host, port=NOBODY), seconds=10)
    with silence() as port, pytest.raises(SourceUnreachable, match="does not answer"):
        probe(bastion.config(port=port), seconds=0.3)
    with pytest.raises(SourceUnreachable, match="the SSH host nowhere"):
        probe(bastion.config(host="nowhere.invalid"), seconds=10)


def test_a_port_that_speaks_something_else(bastion: Sshd, database: Database) -> None:
    with pytest.raises(SourceUnreachable) as caught:
        probe(bastion.config(port=database.port), seconds=10)
    assert "is `port` one of an SSH server?" in caught.value.hint


def test_no_secret_is_logged(
    bastion: Sshd, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ssh = bastion.config(password=Secret("hush-hush"))
    with caplog.at_level(logging.DEBUG):
        assert answers(ssh, database)
    assert "logged in at the SSH server" in caplog.text
    assert "hush" not in caplog.text + repr(ssh) + ssh.model_dump_json()


def test_killed_sessions_end_the_connections_and_the_next_one_works(
    second: Sshd, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ssh = second.config()
    connections = [through(ssh, database) for _ in range(2)]
    assert second.kill_sessions() > 0
    for connection in connections:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
        connection.close()
    assert "was lost: " in caplog.text
    assert "(2 connections to databases ended with it)" in caplog.text
    assert answers(ssh, database)
    assert second.logins.count == 2


def test_an_idle_tunnel_that_was_dropped_is_reopened(second: Sshd, database: Database) -> None:
    ssh = second.config()
    assert answers(ssh, database)
    second.restart()
    assert answers(ssh, database)


def test_a_frozen_server_is_noticed(second: Sshd, database: Database) -> None:
    """It still holds the connection but says nothing, as behind a firewall that forgot it."""
    ssh = second.config()
    assert answers(ssh, database)
    frozen = second.sessions()
    for each in frozen:
        os.kill(each, signal.SIGSTOP)
    with through(ssh, database, seconds=3) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert second.logins.count == 2


def test_keepalive_ends_what_waits_on_a_frozen_server(second: Sshd, database: Database) -> None:
    with through(second.config(keepalive=1), database) as connection:
        for each in second.sessions():
            os.kill(each, signal.SIGSTOP)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select pg_sleep(60)")


def test_an_unused_tunnel_is_closed(
    second: Sshd, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel_module, "IDLE_SECONDS", 0.05)
    ssh = second.config()
    with through(ssh, database) as connection:
        time.sleep(0.2)
        assert connection.execute("select 1").fetchone() == (1,)
    deadline = time.monotonic() + 10
    while second.sessions():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert answers(ssh, database)


def test_only_this_process_can_use_it(bastion: Sshd, database: Database) -> None:
    asks = (
        "import socket, sys\n"
        "there = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=10)\n"
        "there.sendall(bytes.fromhex('0000000804d2162f'))\n"  # SSLRequest: any server answers it
        "try: print(there.recv(1))\n"
        "except ConnectionResetError: print(b'')\n"
    )
    with passage(bastion.config(), database.host, database.port, seconds=10) as way:
        done = subprocess.run(
            [sys.executable, "-c", asks, str(way.port)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "b''\n", done.stderr
        with psycopg.connect(
            hostaddr=way.address, port=way.port, user=database.user, dbname=database.name
        ) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_connecting_that_fails_leaves_no_channel_behind(bastion: Sshd, database: Database) -> None:
    ssh = bastion.config()
    with pytest.raises(RuntimeError), passage(ssh, *_of(database)[:2], seconds=10):
        raise RuntimeError("before libpq was called")
    deadline = time.monotonic() + 10
    while database.rows("select 1 from pg_stat_activity where backend_start > now()"):
        assert time.monotonic() < deadline
    assert answers(ssh, database)


SCRIPT = """
import json, os, signal, sys, threading, time
import psycopg
from pg_ingest.config.ssh import SshConfig
from pg_ingest.tunnel.passage import passage

ssh = SshConfig.model_validate(json.loads(os.environ["SSH_CONFIG"]))
host, port, user, database = sys.argv[2:]

def connect():
    with passage(ssh, host, int(port), seconds=10) as way:
        return psycopg.connect(
            hostaddr=way.address, port=way.port, user=user, dbname=database, autocommit=True
        )

def one(connection):
    return connection.execute("select 1").fetchone()[0]

def leaves_it_open():
    global kept
    kept = connect()
    print(one(kept))

def forks():
    first = connect()
    child = os.fork()
    if child == 0:
        with connect() as own:
            print(one(own), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(one(first), status)
    first.close()

def is_interrupted():
    def ctrl_c():
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=ctrl_c).start()
    try:
        connect()
    except KeyboardInterrupt:
        print("interrupted")

globals()[sys.argv[1]]()
"""


def run_script(what: str, ssh: Any, database: Database) -> tuple[str, str]:
    """What it printed; a process that does not end, or ends with warnings, fails."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SCRIPT, what, *map(str, _of(database)), database.name],
        env={**os.environ, "SSH_CONFIG": ssh.model_dump_json()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_process_ends_in_silence_with_an_open_tunnel(bastion: Sshd, database: Database) -> None:
    assert run_script("leaves_it_open", bastion.config(), database) == ("1\n", "")


def test_a_forked_child_has_its_own(bastion: Sshd, database: Database) -> None:
    out, _ = run_script("forks", bastion.config(), database)
    assert out == "1\n1 0\n"


def test_ctrl_c_while_a_server_does_not_answer(bastion: Sshd, database: Database) -> None:
    with silence() as port:
        out, error = run_script("is_interrupted", bastion.config(port=port), database)
    assert (out, error) == ("interrupted\n", "")
