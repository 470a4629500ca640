"""One SSH server for a session of tests, and tunnels that are closed after each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import psycopg
import pytest

from pg_ingest.config.ssh import SshConfig
from pg_ingest.tunnel.passage import close_tunnels, passage
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.sshd import Sshd


@pytest.fixture(scope="session")
def lasting_bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("bastion")) as running:
        yield running


@pytest.fixture
def bastion(lasting_bastion: Sshd) -> Iterator[Sshd]:
    """Whoever changes something puts it right again."""
    yield lasting_bastion
    close_tunnels()


@pytest.fixture
def second(tmp_path: Path, bastion: Sshd) -> Iterator[Sshd]:
    """Another server with other keys."""
    with Sshd(tmp_path / "second") as running:
        yield running
    close_tunnels()


def through(ssh: SshConfig, database: Database, seconds: float = 10) -> psycopg.Connection:
    """A connection to the database through the tunnel."""
    with passage(ssh, database.host, database.port, seconds=seconds) as way:
        return psycopg.connect(
            host=database.host,
            hostaddr=way.address,
            port=way.port,
            user=database.user,
            dbname=database.name,
            autocommit=True,
        )


def answers(ssh: SshConfig, database: Database) -> bool:
    """Whether a query comes back through the tunnel."""
    with through(ssh, database) as connection:
        return connection.execute("select current_database()").fetchone() == (database.name,)


@contextmanager
def library_server(factory: Callable[[], asyncssh.SSHServer], host_key: Path) -> Iterator[int]:
    """An SSH server that does what a test needs and OpenSSH cannot be made to do; its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    async def listen() -> Any:
        keys = [str(host_key)]
        return await asyncssh.listen("127.0.0.1", 0, server_factory=factory, server_host_keys=keys)

    async def end(server: Any) -> None:
        server.close()
        await server.wait_closed()

    try:
        server = run(listen())
        yield server.get_port()
        close_tunnels()
        run(end(server))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
