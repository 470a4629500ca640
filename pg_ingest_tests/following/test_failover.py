"""The primary is gone and a standby was promoted: what was captured is, or is not, part of its history."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.followed import read_followed, write_followed
from pg_ingest.changelog.timeline import not_of_this_history
from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import SlotUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.timeline import parse_history
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, logged
from pg_ingest_tests.methods.test_standby import Standby

T, U = logged("t"), logged("u")
SLOT = "survives"


@dataclass(frozen=True)
class Failover:
    """A promoted standby whose primary is gone, and what was captured before it was cut off, and after."""

    server: Database
    before: Path
    after: Path

    def following(self, captured: Path, folder: Path, slot: str = SLOT) -> Following:
        """With a copy of what was captured, since each test goes on from there."""
        shutil.copytree(captured, folder / "state")
        return Following(self.server, folder / "state", slot=slot)


@pytest.fixture(scope="module")
def failover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failover]:
    """Rows 1 to 3 arrived at the standby; row 4 did not, but it was captured."""
    after = tmp_path_factory.mktemp("captured")
    before = tmp_path_factory.mktemp("earlier") / "captured"
    with ExitStack() as stack:
        primary = stack.enter_context(Cluster())
        source = at(primary)
        source.execute("create table t (id int primary key); insert into t values (1), (2)")
        source.execute("create table u (id int primary key); insert into u values (1)")
        source.execute(
            f"select pg_create_logical_replication_slot('{SLOT}', 'pgoutput', false, false, true)"
        )
        following = Following(source, after, slot=SLOT)
        following.sync(T, U)
        copy = standby(stack, primary)
        source.execute("insert into t values (3)")

        def slot_is_copied() -> bool:
            # a standby keeps a copy once the slot needs nothing from before the standby was made
            source.execute("select pg_log_standby_snapshot()")
            following.sync(T, U)
            return copies_slot(copy)

        until(slot_is_copied)
        shutil.copytree(after, before)
        copy.execute("alter system set primary_conninfo = ''")
        copy.execute("select pg_reload_conf()")
        until(lambda: not copy.rows("select from pg_stat_wal_receiver"))
        source.execute("insert into t values (4)")
        following.sync(T, U)
        primary.stop()
        copy.execute("select pg_promote()")
        yield Failover(copy, before, after)


def at(cluster: Cluster) -> Database:
    return Database("postgres", cluster.host, cluster.port, cluster.user)


def standby(stack: ExitStack, primary: Cluster) -> Database:
    at(primary).execute("select pg_create_physical_replication_slot('standby', true)")
    settings = {
        "primary_conninfo": f"host={primary.host} port={primary.port} user={primary.user}"
        " dbname=postgres",
        "primary_slot_name": "standby",
        "hot_standby_feedback": "on",
        "wal_receiver_status_interval": "1s",
    }
    return at(stack.enter_context(Standby(settings=settings, primary=primary)))


def copies_slot(copy: Database) -> bool:
    """Whether the standby has a slot that would outlive a promotion, and row 3."""
    copy.execute("select pg_sync_replication_slots()")
    slots = copy.rows(
        "select from pg_replication_slots where slot_name = %s and synced and not temporary", SLOT
    )
    return bool(slots) and bool(copy.rows("select from t where id = 3"))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


def test_what_is_part_of_the_new_history_is_followed_on(failover: Failover, tmp_path: Path) -> None:
    shop = failover.following(failover.before, tmp_path)
    before, followed = shop.changelog.manifest(), read_followed(shop.changelog)
    # as if it had joined behind the promotion: whether it is published here is not known
    behind = replace(followed[U.table], since=1 << 40)
    write_followed(shop.changelog, {**followed, U.table: behind})
    shop.database.execute("insert into t values (5)")
    done = shop.sync(T, U)
    phases = {name: one.report.phase for name, one in done.items() if one.report is not None}
    assert phases == {"t": "changes", "u": "snapshot"}
    shop.check(T, U)
    after = shop.changelog.manifest()
    assert before is not None
    assert after is not None
    assert (before.timeline, after.timeline) == (1, 2)
    assert before.position <= after.timeline_ends[1]


def test_a_standby_that_lacks_what_was_captured_is_refused(
    failover: Failover, tmp_path: Path
) -> None:
    shop = failover.following(failover.after, tmp_path)
    shop.database.execute("insert into t values (6), (7)")
    manifest, rows = shop.changelog.manifest(), shop.stored("t")
    with pytest.raises(SlotUnusable, match="never had") as refused:
        shop.sync(T)
    assert "drop the slot" in refused.value.hint
    assert "timeline 2 left 1 at" in refused.value.detail
    assert (shop.changelog.manifest(), shop.stored("t")) == (manifest, rows)


def test_without_the_slot_only_a_new_beginning_is_left(failover: Failover, tmp_path: Path) -> None:
    shop = failover.following(failover.before, tmp_path, slot="other")
    manifest = shop.changelog.manifest()
    assert manifest is not None
    shop.changelog.commit(replace(manifest, slot="other"))
    with pytest.raises(SlotUnusable, match="is gone") as gone:
        shop.sync(T, U)
    assert "failover slot" in gone.value.hint
    shutil.rmtree(shop.changelog.folder)
    shop.sync(T, U, reset=[T, U])
    shop.check(T, U)
    shop.drop()


def test_a_snapshot_from_behind_the_promotion_is_taken_again(
    failover: Failover, tmp_path: Path
) -> None:
    """It was stored by a run that did not live to capture again, so the log alone does not tell."""
    shop = failover.following(failover.before, tmp_path)
    manifest = shop.changelog.manifest()
    assert manifest is not None
    bookmark = shop.bookmark(T)
    assert bookmark.timeline == 1
    assert Lsn.parse(bookmark.joined_lsn) <= manifest.position
    later = replace(bookmark, joined_lsn=str(Lsn(manifest.position + (1 << 32))))
    now = replace(manifest, timeline=2, timeline_ends={1: manifest.position})
    assert not_of_this_history(manifest, later) == ""
    assert not_of_this_history(now, bookmark) == ""
    assert "left at" in not_of_this_history(now, later)
    assert not_of_this_history(now, replace(later, timeline=3)) != ""
    assert not_of_this_history(now, LogBasedBookmark("0/0", -1, 0, 0, (), "9/9", (), ())) == ""


def test_lines_of_a_history_file() -> None:
    text = "1\t0/3000000\tno recovery target specified\n\n2\t0/50000A0\tat restore point x\n"
    assert parse_history(text) == {1: Lsn(0x3000000), 2: Lsn(0x50000A0)}
    assert parse_history("") == {}
