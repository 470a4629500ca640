"""A source behind a tunnel: sessions, loads, and TLS that checks the database's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest

from pg_ingest.config.model import Secret, SourceConfig
from pg_ingest.errors import LoginFailed, SourceUnreachable
from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres.copy import CopyStream
from pg_ingest.postgres.server import Server
from pg_ingest_tests.certificates import TlsServer
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.methods.conftest import Pair, full
from pg_ingest_tests.servers import needs_sshd, needs_system_server
from pg_ingest_tests.sshd import Sshd, fingerprint
from pg_ingest_tests.tunnel.conftest import library_server

pytestmark = needs_sshd


def server(database: Database, ssh: Any, **changes: Any) -> Server:
    settings: dict[str, Any] = {
        "host": database.host,
        "port": database.port,
        "user": database.user,
        "databases": (database.name,),
        "ssh": ssh,
        **changes,
    }
    return Server("shop", SourceConfig(**settings), retry_delays=())


def test_a_server_killed_in_the_middle_of_a_copy(
    second: Sshd, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load fails as one that heals by itself, nothing is stored, and the next one has every row."""
    database.execute("create table t (id int primary key, v text)")
    database.execute(
        "insert into t select g, repeat(md5(g::text), 20) from generate_series(1, 60000) g"
    )
    pair = Pair(database, tmp_path / "warehouse.duckdb")
    source, read = server(database, second.config()), CopyStream.read
    killed = 0

    def read_and_kill(stream: CopyStream, size: int = -1) -> bytes:
        nonlocal killed
        block = read(stream, size)
        if not killed and stream.bytes_read > 1 << 20:
            killed = second.kill_sessions()
        return block

    def load() -> Any:
        return replicate(source, pair.destination, full("t"), database.name, max_rejected=0)

    monkeypatch.setattr(CopyStream, "read", read_and_kill)
    with pytest.raises(SourceUnreachable, match="the connection broke") as caught:
        load()
    assert killed
    where = f"the SSH connection to 127.0.0.1:{second.port} was lost: "
    assert caught.value.detail.startswith(where), "whoever reads the error need not read the log"
    assert caught.value.detail.count(where) == 1
    assert load().counts.total == 60000
    assert sorted(pair.stored(full("t"), "id, v")) == database.rows(
        "select id, v from t order by id"
    )


def test_a_bastion_that_comes_back_between_two_attempts(second: Sshd, database: Database) -> None:
    """Connecting is tried again by itself."""
    source = server(database, second.config())
    patient = Server("shop", source.config, retry_delays=(0.01,))
    second.stop()
    with (
        pytest.raises(SourceUnreachable, match="no SSH server listens"),
        patient.session(database.name),
    ):
        pass
    second.start()
    with patient.session(database.name) as session:
        assert session.rows("select 1") == [(1,)]


def test_a_database_that_stops_behind_the_tunnel(bastion: Sshd, database: Database) -> None:
    with server(database, bastion.config()).session(database.name) as session:
        (pid,) = session.rows("select pg_backend_pid()")[0]
        database.execute(f"select pg_terminate_backend({pid}, 10000)")
        with pytest.raises(SourceUnreachable) as caught:
            session.rows("select 1")
        assert "SSH" not in caught.value.detail, "the tunnel is not to blame"


def test_a_server_without_tls(bastion: Sshd, database: Database) -> None:
    """Through a tunnel too TLS is required of every host that is not the SSH server itself."""
    plain = server(database, bastion.config(), host="127.0.0.1")
    with plain.session(database.name) as session:
        assert session.encryption is None
    demanding = server(database, bastion.config(), tls={"mode": "require"})
    with pytest.raises(LoginFailed, match="offers no TLS"), demanding.session(database.name):
        pass


class _KnowsTheName(asyncssh.SSHServer):
    """Finds `db.example` and `wrong.example` on this machine, as the name service of a network would."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, host: str, port: int, *_: Any) -> Any:
        assert host.endswith(".example")
        return self._connection.forward_connection("127.0.0.1", port)


@needs_system_server
def test_tls_checks_the_name_of_the_database(
    bastion: Sshd, tls_server: TlsServer, tmp_path: Path
) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(tls_server.authority.own.pem)
    only = tls_server.authority.issue("server", hosts=("db.example",))
    there = Database("postgres", "db.example", tls_server.cluster.port, "alice")

    def through(port: int, host: str, **tls: Any) -> Server:
        ssh = bastion.config(port=port, known_hosts=None, fingerprint=fingerprint(bastion.host_key))
        password = Secret("secret-sesame")
        return server(there, ssh, host=host, password=password, tls=tls or None)

    with tls_server.showing(only), library_server(_KnowsTheName, bastion.host_key) as port:
        full = {"mode": "verify-full", "root_cert": roots}
        with through(port, "db.example", **full).session("postgres") as session:
            assert session.encryption is not None
            assert session.encryption.verified
        wrong = through(port, "wrong.example", **full)
        with pytest.raises(LoginFailed) as caught, wrong.session("postgres"):
            pass
        assert "wrong.example" in str(caught.value)
        with through(port, "db.example").session("postgres") as session:
            assert session.encryption is not None, "required without being asked for"
        pinned = through(port, "db.example", mode="require", fingerprint=only.fingerprint)
        with pinned.session("postgres") as session:
            assert session.encryption is not None
            assert session.encryption.pinned
