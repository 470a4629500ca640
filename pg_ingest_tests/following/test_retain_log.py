"""What the change log keeps and what it lets go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from pg_ingest.config.selection import Replication
from pg_ingest.errors import SlotBusy
from pg_ingest.following.retain_log import retain_log
from pg_ingest.postgres.slot import locked_slot
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following, logged

A, B = logged("a"), logged("b")


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Following]:
    for table in ("a", "b"):
        database.execute(f"create table {table} (id int primary key)")
    with following(database, tmp_path, log={"keep": "0s"}) as found:
        found.sync(A, B)
        yield found


def retained(shop: Following, *tables: Replication) -> list[str]:
    """What is gone, by table."""
    gone = retain_log(shop.server, shop.destination, shop.folder, shop.database.name, tables)
    return sorted(segment.table.name for segment in gone)


def write(shop: Following, number: int) -> None:
    for table in ("a", "b"):
        shop.database.execute(f"insert into {table} values ({number})")


def test_what_every_table_has_applied_goes(shop: Following) -> None:
    write(shop, 1)
    capture = shop.capture(A, B)
    assert retained(shop, A, B) == []
    shop.apply(capture, A)
    assert retained(shop, A, B) == ["a"]
    shop.apply(capture, B)
    assert retained(shop, A, B) == ["b"]
    assert retained(shop, A, B) == []
    write(shop, 2)
    shop.sync(A, B)
    shop.check(A, B)


def test_young_changes_stay(shop: Following) -> None:
    shop.log["keep"] = "1h"
    write(shop, 1)
    shop.sync(A, B)
    assert retained(shop, A, B) == []
    shop.log["keep"] = "0s"
    assert retained(shop, A, B) == ["a", "b"]


def test_a_failing_table_keeps_its_changes(shop: Following) -> None:
    with duckdb.connect(str(shop.path)) as connection:
        connection.execute("drop table shop.a")
    write(shop, 1)
    assert shop.apply(shop.capture(A, B), A, B)["a"].error is not None
    assert retained(shop, A, B) == ["b"]


def test_what_a_snapshot_has_seen_goes(shop: Following) -> None:
    write(shop, 1)
    shop.sync(A, B, reset=[A, B])
    assert shop.bookmark(A).lsn < shop.bookmark(A).joined_lsn
    assert retained(shop, A, B) == ["a", "b"]


def test_what_a_snapshot_has_not_seen_stays(shop: Following) -> None:
    with shop.database.connect(autocommit=False) as writer:
        writer.execute("insert into a values (7)")
        shop.sync(A, B, reset=[A])
        writer.commit()
    capture = shop.capture(A, B)
    assert retained(shop, A, B) == []
    shop.apply(capture, A)
    shop.check(A)
    assert retained(shop, A, B) == ["a"]


def test_who_is_not_replicated_any_more(shop: Following) -> None:
    write(shop, 1)
    shop.capture(A, B)
    assert retained(shop, A) == ["b"]


def test_not_while_somebody_works_with_the_slot(shop: Following) -> None:
    write(shop, 1)
    shop.sync(A, B)
    with (
        shop.server.session(shop.database.name) as session,
        locked_slot(session, shop.slot),
        pytest.raises(SlotBusy),
    ):
        retained(shop, A, B)
    assert retained(shop, A, B) == ["a", "b"]


def test_no_change_log_yet(database: Database, tmp_path: Path) -> None:
    with following(database, tmp_path) as empty:
        assert retained(empty, A) == []


def test_a_full_log_lets_the_oldest_go_first(shop: Following) -> None:
    shop.log["keep"] = "1h"
    for number in (1, 2, 3):
        write(shop, number)
        shop.sync(A, B)
    manifest = shop.changelog.manifest()
    assert manifest is not None and len(manifest.segments) == 6
    shop.log["keep_size"] = manifest.size
    assert retained(shop, A, B) == []
    shop.log["keep_size"] = manifest.size - 1
    assert len(retained(shop, A, B)) == 1
    left = shop.changelog.manifest()
    assert left is not None and left.segments == manifest.segments[1:]
    shop.log["keep_size"] = 1
    assert len(retained(shop, A, B)) == 5


def test_a_full_log_keeps_what_is_not_applied(shop: Following) -> None:
    shop.log["keep_size"] = 1
    write(shop, 1)
    shop.apply(shop.capture(A, B), A)
    assert retained(shop, A, B) == ["a"]
