"""The plugin wal2json: whether it may be used, and which tables it can list."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster
from pg_ingest.doctor.finding import Finding, Verdict
from pg_ingest.doctor.log import check_log
from pg_ingest.errors import PermissionMissing
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.slot_creation import create_slot
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database, fresh
from pg_ingest_tests.followed import logged
from pg_ingest_tests.postgres.conftest import server_for
from pg_ingest_tests.servers import needs_system_server, packaged, wal2json_settings

ALLOW_LIST = "output_plugin_libraries"

pytestmark = needs_system_server


@pytest.fixture(scope="module")
def strict() -> Iterator[Cluster]:
    """A server as it is installed: where there is a list of plugins, wal2json is not on it."""
    with Cluster(binaries=packaged()) as running:
        yield running


@pytest.fixture
def shop(strict: Cluster) -> Iterator[Database]:
    for database in fresh(strict):
        database.execute("create table keyed (id int primary key); create table bare (id int)")
        database.execute("create role follower login replication")
        database.execute("grant select on keyed, bare to follower")
        yield database
        database.rows("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
        database.execute("drop owned by follower; drop role follower")


def found(shop: Database) -> dict[str, Finding]:
    log = {"plugin": "wal2json", "slot": f"doctor_{os.getpid()}"}
    server = server_for(shop, user="follower", log=log)
    with server.session(shop.name) as session:
        tables: list[Replication] = [logged("keyed"), logged("bare")]
        pairs = [(each, describe(session, TableId("public", each.table.name))) for each in tables]
        findings = list(check_log(session, server.config.log, pairs))
    return {f"{each.subject.rpartition('/')[2]} {each.test}": each for each in findings}


def test_only_tables_it_can_list(shop: Database) -> None:
    told = found(shop)
    assert "published" not in {each.test.value for each in told.values()}
    assert told["public.keyed replica-identity"].verdict is Verdict.PASSED
    assert told["public.bare replica-identity"].verdict is Verdict.FAILED


def test_a_plugin_that_is_not_allowed(shop: Database) -> None:
    if not wal2json_settings():
        pytest.skip("this server has no list of plugins")
    plugin = f"{shop.name} plugin"
    assert found(shop)[plugin].verdict is Verdict.SKIPPED  # the list is hidden from ordinary roles
    server = server_for(shop, user="follower")
    with server.session(shop.name) as session:
        with pytest.raises(PermissionMissing) as caught:
            create_slot(session, f"doctor_{os.getpid()}", "wal2json")
        assert ALLOW_LIST in caught.value.hint
    shop.execute("grant pg_read_all_settings to follower")
    refused = found(shop)[plugin]
    assert (refused.verdict, refused.hint) == (Verdict.FAILED, caught.value.hint)
    alter, reload, _ = refused.hint.split(";")
    shop.execute(alter)
    shop.execute(reload)
    deadline = time.monotonic() + 30
    while (
        "wal2json" not in shop.rows(f"show {ALLOW_LIST}")[0][0]
    ):  # the server reloads when it likes
        assert time.monotonic() < deadline
    assert found(shop)[plugin].verdict is Verdict.PASSED
    with server.session(shop.name) as session:
        assert create_slot(session, f"doctor_{os.getpid()}", "wal2json").plugin == "wal2json"
    shop.execute("revoke pg_read_all_settings from follower")
    assert found(shop)[plugin].verdict is Verdict.PASSED  # the slot shows it
