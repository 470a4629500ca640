"""A heartbeat by a table, for servers where our role may not emit messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pg_ingest.errors import PermissionMissing, SourceTableChanged
from pg_ingest.postgres.heartbeat import beat
from pg_ingest.postgres.heartbeat_table import create_heartbeat
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged
from pg_ingest_tests.postgres.conftest import server_for

A = logged("a")
BEATS = TableId("Ops 1", 'the "beats"')


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    database.execute("create table a (id int primary key, v text)")
    database.execute('create schema "Ops 1"')
    table = f"{BEATS.schema}.{BEATS.name}"
    log = {"heartbeat": {"every": "1h", "mode": "table", "table": table}}
    with following(database, tmp_path, log=log) as found:
        yield found


def an_hour_later(shop: Following) -> None:
    manifest = shop.changelog.manifest()
    assert manifest is not None
    shop.changelog.commit(replace(manifest, captured_at=manifest.captured_at - 3601))


def beaten(shop: Following) -> list[str]:
    return [name for (name,) in shop.database.rows('select source from "Ops 1"."the ""beats"""')]


def test_an_idle_database_has_a_row_that_grows_younger(shop: Following) -> None:
    shop.database.execute(create_heartbeat(BEATS))
    before = shop.capture(A)
    assert (before.notes, beaten(shop)) == ((), [])
    an_hour_later(shop)
    capture = shop.capture(A)
    assert (capture.notes, capture.captured.rows, beaten(shop)) == ((), 0, ["shop"])
    assert capture.captured.position > before.captured.position
    assert capture.slot is not None
    assert capture.slot.confirmed_lsn == capture.captured.position
    (first,) = shop.database.rows('select * from "Ops 1"."the ""beats"""')
    shop.capture(A)
    assert shop.database.rows('select * from "Ops 1"."the ""beats"""') == [first]
    an_hour_later(shop)
    shop.capture(A)
    (second,) = shop.database.rows('select * from "Ops 1"."the ""beats"""')
    assert second > first


def test_without_the_table_the_capture_goes_on_and_says_so(shop: Following) -> None:
    shop.capture(A)
    an_hour_later(shop)
    shop.database.execute("insert into a values (1, 'x')")
    capture = shop.capture(A)
    assert capture.captured.rows == 1
    (note,) = capture.notes
    assert note.startswith("no heartbeat: the heartbeat table")
    assert create_heartbeat(BEATS) in note
    assert "GRANT SELECT, INSERT, UPDATE" in note
    shop.apply(capture, A)
    shop.check(A)
    shop.database.execute(create_heartbeat(BEATS))
    an_hour_later(shop)
    assert (shop.capture(A).notes, beaten(shop)) == ((), ["shop"])


def test_what_is_in_the_way(database: Database) -> None:
    """Each is told with the statements that mend it, and run as told they do."""
    table, role = TableId("ops", "beats"), f"beater_{database.name}"
    database.execute(f"create role {role} login")
    database.execute("create schema ops")
    database.execute("create table ops.beats (wrong int)")
    try:
        with server_for(database, user=role).session(database.name) as session:
            with pytest.raises(PermissionMissing) as caught:
                beat(session, table)
            assert caught.value.hint is not None
            database.execute(caught.value.hint)
            with pytest.raises(SourceTableChanged) as other:
                beat(session, table)
            assert "source" in other.value.detail
            database.execute("drop table ops.beats")
            with pytest.raises(SourceTableChanged) as other:
                beat(session, table)
            assert other.value.hint is not None
            database.execute(other.value.hint)
            beat(session, table)
            beat(session, table)
        assert database.rows("select source from ops.beats") == [("shop",)]
    finally:
        database.execute(f"drop owned by {role}")
        database.execute(f"drop role {role}")
