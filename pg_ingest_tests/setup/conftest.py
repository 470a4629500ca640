"""A guarded server for the module, a fresh shop on it for a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.setup.guarded import PASSWORD, SETTINGS, Shop, guard

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def guarded() -> Iterator[Cluster]:
    with Cluster(settings=SETTINGS) as running:
        guard(running)
        yield running


@pytest.fixture
def shop(guarded: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A database where PUBLIC may do nothing, and the name of a role that does not exist yet."""
    monkeypatch.setenv("GUARDED_PASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    name = f"shop {next(_numbers)}"
    role = f"in-gest{next(_numbers)}"
    admin = Database("postgres", guarded.host, guarded.port, guarded.user)
    admin.execute(f'create database "{name}" template template0')
    here = Database(name, guarded.host, guarded.port, guarded.user)
    here.execute(f'revoke all on database "{name}" from public')
    here.execute("revoke all on schema public from public")
    yield Shop(guarded, here, role, tmp_path)
    admin.rows(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s",
        name,
    )
    admin.execute(f'drop database "{name}" with (force)')
    if admin.rows("select from pg_roles where rolname = %s", role):
        admin.execute(f'drop owned by "{role}"')
        admin.execute(f'drop role "{role}"')
