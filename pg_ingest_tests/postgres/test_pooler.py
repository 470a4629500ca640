"""Behind PgBouncer: values are as always, and nothing of ours stays in a session that others get next."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pg_ingest.demo.cluster import free_port
from pg_ingest.errors import MethodUnavailable
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.server import Server
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, logged
from pg_ingest_tests.postgres.conftest import server_for
from pg_ingest_tests.servers import needs_pgbouncer, pgbouncer

pytestmark = needs_pgbouncer

_INI = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
"""


@contextmanager
def pooled(database: Database, folder: Path, mode: str) -> Iterator[Database]:
    """The same database by way of a pooler."""
    program, own = pgbouncer(), free_port()
    assert program is not None
    users, ini = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{database.user}" ""\n')
    facts = {"host": database.host, "port": database.port, "own": own, "users": users}
    ini.write_text(_INI.format(**facts, mode=mode))
    for path in (users, ini, *list(folder.parents)[:3], folder):
        path.chmod(0o755)
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    command = [str(program), "--quiet", str(ini)]
    with subprocess.Popen(command, user=user, cwd="/", stderr=subprocess.DEVNULL) as running:
        try:
            found = replace(database, port=own)
            _wait_for(found)
            yield found
        finally:
            running.terminate()


def _wait_for(database: Database) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            database.rows("select 1")
        except psycopg.OperationalError:
            assert time.monotonic() < until
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Through a pool in transaction mode, with a role whose settings would change every value."""
    database.execute(
        "create table public.t (id int primary key, at timestamptz, f float8, b bytea)"
    )
    database.execute(
        "insert into public.t values (1, '2024-02-29 12:00+00', 0.1::float8 + 0.2, '\\x00ff')"
    )
    strange = {"timezone": "Asia/Kolkata", "datestyle": "German", "extra_float_digits": "-9"}
    for name, value in {**strange, "bytea_output": "escape"}.items():
        database.execute(f"alter database {database.name} set {name} = '{value}'")
    with pooled(database, tmp_path, "transaction") as found:
        yield found


SETTINGS = """
select name, setting from pg_settings where source = 'session' and name <> 'client_encoding'
and name <> 'application_name'
"""


def test_a_session_of_ours_leaves_nothing_behind(shop: Database) -> None:
    server = server_for(shop)
    with server.session(shop.name) as session:
        assert session.pooled
        ours = [name for name, _ in session.rows(SETTINGS.replace("%", "%%"))]
        assert "search_path" in ours
        assert shop.rows(SETTINGS) == []
        table = describe(session, TableId("public", "t"))
        query = select_rows(table, table.columns)
        session.explain(query)
        assert shop.rows(SETTINGS) == []
        for inside in (False, True):
            if inside:
                with session.snapshot(), session.copy(query) as rows:
                    text = rows.read()
            else:
                with session.copy(query) as rows:
                    text = rows.read()
            assert text == b"1,2024-02-29 12:00:00+00,0.30000000000000004,\\x00ff\n"
            assert shop.rows(SETTINGS) == []
        with session.copy(query):
            pass  # given up before the first row
        session.change([], what="changing nothing")
        assert shop.rows(SETTINGS) == []
        (mine,) = session.rows("select pg_backend_pid()")
        assert shop.rows("select pg_backend_pid()") == [mine]
    shop.execute("insert into public.t values (2)")


def test_the_log_is_not_followed_where_a_lock_does_not_hold(shop: Database, tmp_path: Path) -> None:
    with pytest.raises(MethodUnavailable, match="pooler"):
        Following(shop, tmp_path).capture(logged("t"))
    assert shop.rows("select * from pg_locks where locktype = 'advisory'") == []
    assert shop.rows("select * from pg_publication") == []


def test_the_log_through_a_pool_in_session_mode(database: Database, tmp_path: Path) -> None:
    database.execute("create table public.t (id int primary key)")
    with pooled(database, tmp_path, "session") as found:
        shop = Following(found, tmp_path)
        try:
            for number in range(2):
                database.execute("insert into public.t values (%s)", number)
                shop.sync(logged("t"))
                shop.check(logged("t"))
        finally:
            Following(database, tmp_path, slot=shop.slot).drop()


def test_a_server_itself_is_no_pooler(database: Database) -> None:
    with Server("shop", server_for(database).config).session(database.name) as session:
        assert not session.pooled
        assert "search_path" in [name for name, _ in session.rows(SETTINGS)]
