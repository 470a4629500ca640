"""Runs that succeed and runs that fail, and then a search for every secret in all they have left behind."""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import dagster as dg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from dagster._core.remote_representation.external_data import RepositorySnap

from pg_ingest.config.load import load_config
from pg_ingest.defs import faults
from pg_ingest.defs.factory import build_definitions
from pg_ingest.demo.cluster import free_port
from pg_ingest.postgres import server
from pg_ingest_tests.certificates import TlsServer, write_key
from pg_ingest_tests.servers import needs_system_server

SECRETS = {
    "a literal password": "secret-sesame",
    "a wrong password": "wrong-sesame-31",
    "the password of a key": "keypass-sesame-32",
    "the passphrase of an SSH key": "passphrase-sesame-33",
    "the password of an SSH user": "bastion-sesame-34",
    "a password of the environment": "unused-sesame-35",
}


@pytest.fixture
def config(tls_server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources that work (by password, by certificate) and sources that do not (login, bastion)."""
    carol = tls_server.authority.issue("carol")
    carol.write(tmp_path, "carol")
    write_key(tmp_path / "carol.key", carol.key_bytes(password=b"keypass-sesame-32"))
    lock = BestAvailableEncryption(b"passphrase-sesame-33")
    own = ec.generate_private_key(ec.SECP256R1())
    write_key(tmp_path / "ssh.key", own.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock))
    (tmp_path / "known_hosts").touch()
    (tmp_path / "carol.password").write_text("keypass-sesame-32\n")
    monkeypatch.setenv("UNUSED", "unused-sesame-35")
    port, closed = tls_server.cluster.port, free_port()
    server = f"host: localhost, port: {port}, databases: [postgres], method: full_table"
    tables = "tables: {public.orders: {}}, limits: {connect_timeout: 2}"
    path = tmp_path / "pg_ingest.yaml"
    path.write_text(
        dedent(f"""
        destination: {{type: duckdb, path: kept/warehouse.duckdb}}
        state_dir: kept/state
        sources:
          plain: {{{server}, {tables}, user: alice, password: secret-sesame}}
          keyed:
            {{{server}, {tables}, user: carol, password: {{env: UNUSED}},
             tls: {{mode: require, client_cert: carol.crt, client_key: carol.key,
                   client_key_password: {{file: carol.password}}}}}}
          wrong: {{{server}, {tables}, user: alice, password: wrong-sesame-31}}
          tunnel:
            {{{server}, {tables}, user: alice, password: {{env: UNUSED}},
             ssh: {{host: 127.0.0.1, port: {closed}, user: u, private_key: ssh.key,
                   passphrase: passphrase-sesame-33, password: bastion-sesame-34,
                   known_hosts: known_hosts}}}}
        """)
    )
    (tmp_path / "kept").mkdir()
    return path


@pytest.fixture
def orders(tls_server: TlsServer) -> Iterator[None]:
    with tls_server.admin() as admin:
        admin.execute("create table public.orders (id int primary key)")
        admin.execute("insert into public.orders values (1), (2)")
        admin.execute("grant select on public.orders to alice, carol")
        yield
        admin.execute("drop table public.orders")


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each file's content, and each value in an SQLite file, unpacked: Dagster packs its snapshots."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        yield path.name, content
        if content.startswith(b"SQLite format 3"):
            yield from ((path.name, value) for value in _values(path))


def _values(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (name,) in names:
            for row in connection.execute(f'select * from "{name}"'):
                for value in row:
                    yield _unpacked(value) if isinstance(value, bytes) else str(value).encode()


def _unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value


@needs_system_server
def test_no_secret_is_left_anywhere(
    config: Path,
    orders: None,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(server.random, "uniform", lambda *bounds: 0.0)
    caplog.set_level(logging.DEBUG)
    loaded = load_config(config)
    definitions = build_definitions(loaded, {})
    home = tmp_path / "home"
    home.mkdir()
    outcomes = {}
    events = []
    with dg.instance_for_test(temp_dir=str(home)) as instance:
        for source in loaded.config.sources:
            result = definitions.resolve_job_def(f"sync_{source}").execute_in_process(
                instance=instance,
                partition_key="postgres",
                raise_on_error=False,
            )
            outcomes[source] = result.success
            events += [*map(str, instance.all_logs(result.run_id)), repr(result.all_events)]
            events.append(str(instance.get_run_by_id(result.run_id)))
    assert outcomes == {"plain": True, "keyed": True, "wrong": False, "tunnel": False}
    snapshot = dg.serialize_value(
        RepositorySnap.from_def(definitions.get_repository_def(), defer_snapshots=False)
    )
    said = capfd.readouterr()
    found = [
        ("events", "\n".join(events).encode()),
        ("snapshot", snapshot.encode()),
        ("stdout", said.out.encode()),
        ("stderr", said.err.encode()),
        ("log", caplog.text.encode()),
        ("repr", repr((loaded, definitions)).encode()),
        *everything_below(home),
        *everything_below(tmp_path / "kept"),
    ]
    places = {name for name, _ in found}
    assert {"warehouse.duckdb", "runs.db", "index.db"} <= places
    whole = b"".join(content for _, content in found)
    assert b"login refused for user alice" in whole, "the search looks where words are"
    assert b"pg_ingest.yaml" in whole
    leaks = {
        (what, name)
        for what, secret in SECRETS.items()
        for name, content in found
        if secret.encode() in content
    }
    assert leaks == set()
