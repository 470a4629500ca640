"""A slot that another tool has read so far is taken over, from where it stands or from a position."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.errors import SlotUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.publication import OURS
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

A = logged("a")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    """Another tool's slot and publication; it has read nothing yet of what follows."""
    database.execute("create table a (id int primary key, v text)")
    database.execute("create publication followed for table a")
    with following(database, tmp_path) as found:
        database.rows("select pg_create_logical_replication_slot(%s, 'pgoutput')", found.slot)
        yield found


def now(shop: Following) -> str:
    """A position after all that has committed, on the server's disk."""
    shop.flush()
    shop.database.execute("select pg_logical_emit_message(true, 'test', 'x')")
    shop.flush()
    ((lsn,),) = shop.database.rows("select pg_current_wal_flush_lsn()::text")
    return str(lsn)


def confirmed(shop: Following) -> Lsn:
    ((lsn,),) = shop.database.rows(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s", shop.slot
    )
    return Lsn.parse(lsn)


def test_what_was_read_before_is_left_out(shop: Following) -> None:
    shop.database.execute("insert into a values (1, 'read by another tool')")
    shop.log["start_lsn"] = start = now(shop)
    shop.database.execute("insert into a values (2, 'not read yet')")
    capture = shop.capture(A)
    assert capture.begun_at == Lsn.parse(start)
    assert (capture.captured.transactions, capture.captured.rows) == (2, 1)
    assert confirmed(shop) == capture.captured.position
    assert shop.changelog.changes(A.table).get_column("id").to_list() == ["2"]
    shop.apply(capture, A)
    shop.check(A)
    shop.database.execute("insert into a values (3, 'x')")
    assert shop.capture(A).captured.rows == 1
    shop.sync(A)
    shop.check(A)


def test_without_a_position_it_begins_where_the_slot_stands(shop: Following) -> None:
    shop.database.execute("insert into a values (1, 'not read yet')")
    assert shop.capture(A).captured.rows == 1
    ((comment,),) = shop.database.rows(
        "select obj_description(oid, 'pg_publication') from pg_publication"
    )
    assert comment != OURS


@pytest.mark.parametrize(
    ("start", "told"),
    [("0/10", "it stands at"), ("FF/0", "the server's log ends at")],
)
def test_a_position_that_cannot_be_had(shop: Following, start: str, told: str) -> None:
    stood = confirmed(shop)
    shop.database.execute("insert into a values (1, 'x')")
    shop.log["start_lsn"] = start
    with pytest.raises(SlotUnusable, match=f"cannot be taken over at {start}") as caught:
        shop.capture(A)
    assert told in caught.value.detail
    assert (confirmed(shop), shop.changelog.manifest()) == (stood, None)
    del shop.log["start_lsn"]
    assert shop.capture(A).captured.rows == 1


def test_a_slot_that_does_not_exist_is_not_made(shop: Following) -> None:
    shop.drop()
    shop.log["start_lsn"] = now(shop)
    with pytest.raises(SlotUnusable) as caught:
        shop.capture(A)
    assert caught.value.detail == "there is no such slot"
    assert (
        shop.database.rows("select from pg_replication_slots where slot_name = %s", shop.slot) == []
    )


def test_the_position_means_nothing_later(shop: Following) -> None:
    shop.log["start_lsn"] = now(shop)
    shop.sync(A)
    shop.database.execute("insert into a values (1, 'x')")
    shop.log["start_lsn"] = "FF/0"
    shop.sync(A)
    shop.check(A)
