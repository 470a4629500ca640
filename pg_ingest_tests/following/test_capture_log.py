"""The log of one database into its change log: who is in the publication, and since when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pg_ingest.changelog.followed import read_followed
from pg_ingest.errors import (
    ChangeLogDamaged,
    MethodUnavailable,
    SlotBusy,
    SlotUnusable,
    SourceBusy,
    SourceTableChanged,
)
from pg_ingest.following import capture_log as module
from pg_ingest.following import follow_log
from pg_ingest.postgres.slot import locked_slot
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

A, B, C = logged("a"), logged("b"), logged("c")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute("create table a (id int primary key, v text)")
    database.execute("create table b (id int primary key, v text)")
    with following(database, tmp_path) as found:
        yield found


def test_one_bad_table_keeps_nobody_out(shop: Following) -> None:
    shop.database.execute("create table c (id int)")
    capture = shop.capture(A, B, C, logged("gone"))
    assert set(capture.since) == {A.table, B.table}
    assert isinstance(capture.failures[C.table], MethodUnavailable)
    assert isinstance(capture.failures[TableId("public", "gone")], SourceTableChanged)
    assert capture.absent == {TableId("public", "gone")}
    shop.database.execute("insert into c values (1)")
    shop.database.execute("delete from c")
    shop.database.execute("insert into a values (1, 'x')")
    assert shop.capture(A, B, C).captured.rows == 1


def test_a_database_without_the_tables_gets_no_slot(shop: Following) -> None:
    first = shop.capture(C)
    assert first.absent == {C.table}
    assert first.slot is None
    asked = "select count(*) from pg_replication_slots where slot_name = %s"
    assert shop.database.rows(asked, shop.slot) == [(0,)]
    assert shop.database.rows("select count(*) from pg_publication") == [(0,)]
    shop.database.execute("create table c (id int primary key)")
    assert set(shop.capture(C).since) == {C.table}
    shop.database.execute("insert into c values (1)")
    assert shop.capture(C).captured.rows == 1


def test_nothing_to_capture(shop: Following) -> None:
    first = shop.capture(A)
    second = shop.capture(A)
    assert second.captured.rows == 0
    assert second.begun_at == first.captured.position
    assert second.since == first.since
    assert second.slot is not None
    assert second.slot.confirmed_lsn == second.captured.position
    assert second.behind < 1 << 20


def test_a_writer_from_before_delays_only_its_table(shop: Following) -> None:
    shop.limits["lock_timeout"] = 1
    shop.capture(A)
    with shop.database.connect(autocommit=False) as writer:
        writer.execute("insert into b values (1, 'before')")
        capture = shop.capture(A, B)
        assert set(capture.since) == {A.table}
        error = capture.failures[B.table]
        assert isinstance(error, SourceBusy)
        assert f"process {writer.info.backend_pid}" in error.detail
        writer.commit()
    assert set(shop.capture(A, B).since) == {A.table, B.table}


def test_a_prepared_writer_delays_its_table(shop: Following) -> None:
    shop.limits["lock_timeout"] = 1
    shop.capture(A)
    shop.database.execute("begin; insert into b values (1, 'x'); prepare transaction 'p'")
    try:
        error = shop.capture(A, B).failures[B.table]
        assert isinstance(error, SourceBusy)
        assert "prepared" in error.detail
    finally:
        shop.database.execute("commit prepared 'p'")
    assert set(shop.capture(A, B).since) == {A.table, B.table}


def test_who_returns_is_followed_anew(shop: Following) -> None:
    first = shop.capture(A, B)
    assert B.table not in shop.capture(A).since
    shop.database.execute("insert into b values (1, 'not captured')")
    again = shop.capture(A, B)
    assert again.since[A.table] == first.since[A.table]
    assert again.since[B.table] > first.since[B.table]


def test_a_table_made_anew_is_followed_anew(shop: Following) -> None:
    first = shop.capture(A, B)
    shop.database.execute("drop table b")
    shop.database.execute("create table b (id int primary key)")
    again = shop.capture(A, B)
    assert again.since[B.table] > first.since[B.table]
    assert again.since[A.table] == first.since[A.table]


def test_killed_before_it_is_written_down_nobody_is_followed(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.capture(A)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(follow_log, "wait_for_writers", die)
        with pytest.raises(KeyboardInterrupt):
            shop.capture(A, B)
    assert set(read_followed(shop.changelog)) == {A.table}
    again = shop.capture(A, B)
    assert again.since[A.table] == first.since[A.table]
    assert again.since[B.table] > first.captured.position


def test_somebody_elses_publication_is_used_as_it_is(shop: Following) -> None:
    shop.database.execute("create publication followed for table a with (publish = 'insert')")
    capture = shop.capture(A, B)
    assert set(capture.since) == {A.table}
    assert isinstance(capture.failures[B.table], SlotUnusable)
    assert "does not carry public.b" in capture.failures[B.table].message
    assert capture.notes == ("publication followed does not carry delete, truncate, update",)
    shop.database.execute("alter publication followed add table b")
    assert set(shop.capture(A, B).since) == {A.table, B.table}


def test_a_publication_of_parts_is_refused_where_it_matters(shop: Following) -> None:
    shop.database.execute("create publication followed for table a (id), table b where (id > 5)")
    capture = shop.capture(A, B)
    assert "lacks its columns v" in capture.failures[A.table].detail
    assert "has the row filter (id > 5)" in capture.failures[B.table].detail
    assert capture.since == {}
    assert set(shop.capture(logged("a", exclude_columns=("v",)), B).since) == {A.table}
    assert shop.capture(A, B).since == {}


def test_all_tables(shop: Following) -> None:
    shop.database.execute("create publication followed for all tables")
    first = shop.capture(A)
    shop.database.execute("drop table a")
    shop.database.execute("create table a (id int primary key)")
    assert shop.capture(A).since[A.table] > first.since[A.table]


def test_a_table_that_we_do_not_own(shop: Following) -> None:
    shop.database.execute(f"create role owner_{shop.slot} login replication")
    role = f"owner_{shop.slot}"
    try:
        shop.database.execute(f"grant create on database {shop.database.name} to {role}")
        shop.database.execute(f"alter table a owner to {role}")
        there = Following(
            Database(shop.database.name, shop.database.host, shop.database.port, role),
            shop.folder,
            slot=shop.slot,
        )
        first = module.capture_log(there.server, there.folder, shop.database.name, [A])
        assert set(first.since) == {A.table}
        again = module.capture_log(there.server, there.folder, shop.database.name, [A, B])
        assert set(again.since) == {A.table}
        assert "only the owner" in again.failures[B.table].hint
    finally:
        shop.database.execute(f"drop owned by {role}; reassign owned by {role} to postgres")
        shop.database.execute("drop publication if exists followed")
        shop.database.execute(f"drop role {role}")


def test_the_slot_is_locked_meanwhile(shop: Following) -> None:
    with (
        shop.server.session(shop.database.name) as session,
        locked_slot(session, shop.slot),
        pytest.raises(SlotBusy, match="another process of ours"),
    ):
        shop.capture(A)
    assert set(shop.capture(A).since) == {A.table}


def test_servers_that_forget_are_read_once_more(
    shop: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_log, "_ATTENTIVE", {99: 990000})
    shop.capture(A)
    shop.database.execute("insert into a values (1, 'x')")
    capture = shop.capture(A, B)
    assert set(capture.since) == {A.table, B.table}
    assert capture.captured.rows == 1
    assert capture.since[B.table] >= capture.captured.position


@pytest.mark.parametrize(
    ("version", "attentive"),
    [(120022, False), (150012, False), (150013, True), (170005, True), (180000, True)],
)
def test_which_servers_forget(version: int, attentive: bool) -> None:
    assert follow_log._attentive(version) is attentive


def test_a_damaged_list_is_named(shop: Following) -> None:
    shop.capture(A)
    (shop.changelog.folder / "followed.json").write_text("[{}]")
    with pytest.raises(ChangeLogDamaged, match="the list of tables"):
        shop.capture(A)


def test_a_heartbeat_where_nothing_is_written(shop: Following) -> None:
    shop.log["heartbeat"] = {"every": "1h"}
    shop.capture(A)
    witness = f"{shop.slot}_witness"
    shop.database.rows("select pg_create_logical_replication_slot(%s, 'pgoutput')", witness)
    try:
        assert _beats(shop, witness) == 0
        shop.capture(A)
        assert _beats(shop, witness) == 0
        manifest = shop.changelog.manifest()
        assert manifest is not None
        shop.changelog.commit(replace(manifest, captured_at=manifest.captured_at - 3601))
        assert shop.capture(A).captured.rows == 0
        assert _beats(shop, witness) == 1
    finally:
        shop.database.rows("select pg_drop_replication_slot(%s)", witness)


def _beats(shop: Following, witness: str) -> int:
    shop.flush()
    messages = shop.database.rows(
        "select data from pg_logical_slot_peek_binary_changes(%s, null, null, 'proto_version', '1',"
        " 'publication_names', 'followed', 'messages', 'true')",
        witness,
    )
    return sum(bytes(data).endswith(b"heartbeat") for (data,) in messages)


def test_what_the_server_keeps_shrinks_too(shop: Following, database: Database) -> None:
    shop.capture(A)
    database.execute("create table busy as select generate_series(1, 200000)")
    kept = shop.capture(A).slot
    database.execute("select pg_log_standby_snapshot()")
    shop.capture(A)
    database.execute("select pg_log_standby_snapshot()")
    now = shop.capture(A).slot
    assert kept is not None
    assert now is not None
    assert (now.restart_lsn or 0) >= (kept.confirmed_lsn or 1)


def test_an_idle_database_moves_while_another_writes(shop: Following, database: Database) -> None:
    before = shop.capture(A).captured.position
    other = Database("postgres", database.host, database.port, database.user)
    other.execute(f"create table if not exists busy_{shop.slot} as select generate_series(1, 9999)")
    other.execute(f"drop table busy_{shop.slot}")
    after = shop.capture(A)
    assert after.captured.rows == 0
    assert after.captured.position > before
    assert after.slot is not None
    assert after.slot.confirmed_lsn == after.captured.position
    assert after.behind < 1 << 20
