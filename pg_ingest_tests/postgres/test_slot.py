"""Slots on a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import MethodUnavailable, PermissionMissing, SlotBusy, SlotUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.log_end import flushed_lsn, system_identifier
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import advance_slot, drop_slot, locked_slot, read_slot, usable_slot
from pg_ingest.postgres.slot_creation import OLDEST_VERSION, create_slot
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import Role, server_for


@pytest.fixture
def name(database: Database) -> Iterator[str]:
    slot = f"slot_{uuid.uuid4().hex[:12]}"
    yield slot
    for held in (slot, slot + "_2"):
        database.rows(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s",
            held,
        )


def test_a_plugin_that_is_not_installed_or_not_allowed(any_version: Cluster) -> None:
    with server_for(any_version).session("postgres") as session:
        if session.server_version < OLDEST_VERSION:
            return
        with pytest.raises((MethodUnavailable, PermissionMissing)) as raised:
            create_slot(session, "no_library", "wal2json")
        if isinstance(raised.value, MethodUnavailable):
            assert "is not installed" in raised.value.message
            assert "pgoutput" in raised.value.hint
        else:
            assert "output_plugin_libraries" in raised.value.hint
        assert read_slot(session, "no_library") is None


def test_created_looked_at_and_dropped(session: Session, name: str) -> None:
    assert read_slot(session, name) is None
    assert usable_slot(session, name, "pgoutput") is None
    slot = create_slot(session, name, "pgoutput")
    assert (slot.plugin, slot.database, slot.active_pid) == ("pgoutput", session.database, None)
    assert slot.confirmed_lsn is not None and slot.wal_status == "reserved" and not slot.lost
    assert usable_slot(session, name, "pgoutput") == slot
    drop_slot(session, name)
    drop_slot(session, name)
    assert read_slot(session, name) is None


def test_advanced_but_never_back(session: Session, database: Database, name: str) -> None:
    first = create_slot(session, name, "pgoutput").confirmed_lsn
    database.execute("create table a(id int)")
    database.execute("select pg_switch_wal()")
    to = flushed_lsn(session)
    advance_slot(session, name, to)
    after = read_slot(session, name)
    assert first is not None and after is not None and after.confirmed_lsn == to > first
    advance_slot(session, name, first)
    assert read_slot(session, name) == after


def test_another_plugin_is_refused(session: Session, name: str) -> None:
    create_slot(session, name, "test_decoding")
    with pytest.raises(SlotUnusable, match="has the plugin test_decoding, not pgoutput"):
        usable_slot(session, name, "pgoutput")


def test_a_physical_and_a_temporary_slot_are_refused(
    session: Session, database: Database, name: str
) -> None:
    with database.connect() as other:
        other.execute("select pg_create_physical_replication_slot(%s)", [name])
        other.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput', true)", [name + "_2"]
        )
        with pytest.raises(SlotUnusable, match="is a physical slot"):
            usable_slot(session, name, "pgoutput")
        with pytest.raises(SlotUnusable, match="is temporary"):
            usable_slot(session, name + "_2", "pgoutput")


def test_a_slot_of_another_database_is_refused(database: Database, name: str) -> None:
    server = server_for(database)
    with server.session(database.name) as session, server.session("postgres") as elsewhere:
        create_slot(session, name, "pgoutput")
        with pytest.raises(SlotUnusable, match=f"belongs to database {database.name}"):
            usable_slot(elsewhere, name, "pgoutput")


def test_one_worker_a_slot(database: Database, name: str) -> None:
    server = server_for(database)
    with server.session(database.name) as one, server.session(database.name) as two:
        with locked_slot(one, name):
            with pytest.raises(SlotBusy, match="another process of ours"), locked_slot(two, name):
                pass
            with locked_slot(two, name + "_2"):
                pass
        with locked_slot(two, name):
            pass


def test_a_killed_worker_gives_its_lock_up(database: Database, name: str) -> None:
    server = server_for(database)
    with (
        server.session(database.name) as one,
        server.session(database.name) as two,
        locked_slot(one, name),
    ):
        ((pid,),) = one.rows("select pg_backend_pid()")
        database.rows("select pg_terminate_backend(%s, 5000)", pid)
        with locked_slot(two, name):
            pass


def test_a_role_without_replication_is_told_the_statement(role: Role, name: str) -> None:
    with (
        role.server.session(role.database.name) as session,
        pytest.raises(PermissionMissing) as caught,
    ):
        create_slot(session, name, "pgoutput")
    assert f"ALTER ROLE {role.name} REPLICATION" in caught.value.hint.replace('"', "")


def test_the_server_is_recognised_without_any_grant(role: Role) -> None:
    with role.server.session(role.database.name) as session:
        assert system_identifier(session) > 1 << 32
        assert flushed_lsn(session) > Lsn(0)


def test_a_server_that_is_not_set_up() -> None:
    settings = {"wal_level": "replica", "max_replication_slots": "1"}
    with Cluster(settings=settings) as cluster:
        with (
            server_for(cluster).session("postgres") as session,
            pytest.raises(MethodUnavailable, match="wal_level is replica"),
        ):
            create_slot(session, "s", "pgoutput")
        cluster.stop("fast")
        cluster.settings = {**settings, "wal_level": "logical"}
        cluster.start()
        with server_for(cluster).session("postgres") as session:
            create_slot(session, "s", "pgoutput")
            with pytest.raises(MethodUnavailable, match="all 1 replication slots"):
                create_slot(session, "t", "pgoutput")


def test_a_lost_slot_is_said_to_be_lost() -> None:
    settings = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with Cluster(settings=settings) as cluster, server_for(cluster).session("postgres") as session:
        create_slot(session, "s", "pgoutput")
        admin = Database("postgres", cluster.host, cluster.port, cluster.user)
        for _ in range(4):
            admin.execute("select pg_logical_emit_message(false, 'x', 'x')")
            admin.execute("select pg_switch_wal()")
        admin.execute("checkpoint")
        with pytest.raises(SlotUnusable, match="is lost") as caught:
            usable_slot(session, "s", "pgoutput")
    assert "pg_drop_replication_slot" in caught.value.hint
