"""A followed standby whose syncs are killed, that is promoted, that loses its slot, or is an older server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import SlotUnusable, SourceBusy
from pg_ingest_tests import log_crash
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, logged
from pg_ingest_tests.following.test_log_crash import killed
from pg_ingest_tests.methods.test_standby import Standby
from pg_ingest_tests.servers import other_servers
from pg_ingest_tests.standby import FollowedStandby, following_standby, standby_of, told

KEYED, PLAIN = log_crash.TABLES
SLOTS = "select slot_name from pg_replication_slots where database = current_database()"


def make_tables(database: Database) -> None:
    database.execute(
        "create table keyed (id int primary key, v text); create table plain (id int, v text);"
        " alter table plain replica identity full"
    )


def work(database: Database, first: int) -> None:
    """Small and large transactions, all kinds of changes, doubles in the table without a key."""
    with database.connect() as connection:
        for table in ("keyed", "plain"):
            for n in range(first, first + 5):
                connection.execute(f"insert into {table} values ({n}, 'one')")
            connection.execute(
                f"insert into {table} select n, 'many' from generate_series({first + 20}, {first + 300}) n"
            )
            connection.execute(f"update {table} set v = 'changed' where id % 7 = 0")
            connection.execute(f"delete from {table} where id % 5 = 0")
        connection.execute(f"insert into plain select id, v from plain where id < {first + 20}")
        connection.execute(f"update keyed set id = id + 100000 where id = {first + 1}")


@pytest.fixture(scope="module")
def standby(cluster: Cluster) -> Iterator[Standby]:
    with standby_of(cluster) as running, told(cluster):
        yield running


@pytest.fixture
def shop(database: Database, standby: Standby, tmp_path: Path) -> Iterator[FollowedStandby]:
    make_tables(database)
    with following_standby(database, standby, tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("step", "when", "number"),
    [
        ("create slot", "after", 1),
        ("forget", "after", 1),
        ("anchor", "after", 1),
        ("stage", "after", 1),
        ("commit", "after", 1),
    ],
)
def test_killed_while_tables_join(
    database: Database, shop: FollowedStandby, step: str, when: str, number: int
) -> None:
    work(database, 0)
    shop.publish("keyed", "plain")
    killed(shop, step, when, number)
    assert [name for (name,) in shop.database.rows(SLOTS)] == [shop.slot]
    work(database, 1000)
    shop.sync(KEYED, PLAIN)
    work(database, 2000)
    shop.sync(KEYED, PLAIN)
    shop.check(KEYED, PLAIN)


def test_a_large_table_comes_in_chunks(database: Database, shop: FollowedStandby) -> None:
    shop.limits |= {"chunk_rows": 100, "load_threads": 1}
    work(database, 0)
    work(database, 1000)
    database.execute("analyze")
    shop.publish("keyed")
    capture = shop.capture(KEYED)
    rounds = iter(range(2000, 9000, 1000))

    def meanwhile(*_: object) -> None:
        if (first := next(rounds, None)) is not None:
            work(database, first)
            shop.flush()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pg_ingest.loading.chunked_load.PROGRESS_SECONDS", 0.0)
        done = shop.apply(capture, KEYED, progress=meanwhile)["keyed"]
    assert done.error is None and done.report is not None
    assert done.report.phase == "historical"
    shop.sync(KEYED)
    shop.check(KEYED)


def test_a_promotion(cluster: Cluster, database: Database, tmp_path: Path) -> None:
    """Tables go on as they are; one that had not joined waits for what was prepared before."""
    make_tables(database)
    with standby_of(cluster) as heir, following_standby(database, heir, tmp_path) as shop:
        with told(cluster):
            work(database, 0)
            shop.publish("keyed", "plain")
            shop.sync(KEYED)
            work(database, 1000)
            shop.sync(KEYED)
            shop.sync(KEYED)
        database.execute("create table late (id int primary key); insert into late values (1)")
        with database.connect() as connection:
            connection.execute("begin; insert into late values (2)")
            connection.execute(f"prepare transaction '{database.name}'")
        database.execute("alter publication followed add table late")
        shop.flush()
        late = logged("late")
        assert shop.capture(KEYED, late).failures == {}
        heir_database = shop.database
        heir_database.execute("select pg_promote()")
        promoted = Following(heir_database, tmp_path, slot=shop.slot)
        work(heir_database, 2000)
        promoted.limits["lock_timeout"] = 1
        waiting = promoted.capture(KEYED, late)
        assert isinstance(waiting.failures[late.table], SourceBusy)
        done = promoted.apply(waiting, KEYED)["keyed"]
        assert done.error is None and done.report is not None and done.report.phase == "changes"
        heir_database.execute(f"commit prepared '{database.name}'")
        promoted.sync(KEYED, late)
        promoted.check(KEYED, late)
        work(heir_database, 3000)
        promoted.sync(KEYED, PLAIN, late)
        promoted.check(KEYED, PLAIN, late)
    database.execute(f"rollback prepared '{database.name}'")


def lose_the_slot(database: Database, shop: FollowedStandby) -> None:
    """The primary takes rows of the catalogue away, and its standby, which does not mind, replays it."""
    shop.database.execute("alter system set hot_standby_feedback = off")
    shop.database.execute("select pg_reload_conf()")
    deadline = time.monotonic() + 30
    conflicting = "select conflicting from pg_replication_slots where slot_name = %s"
    while not shop.database.rows(conflicting, shop.slot)[0][0]:
        assert time.monotonic() < deadline, "the slot is still there"
        database.execute("create table passing (id int); drop table passing")
        database.execute("vacuum pg_class, pg_attribute, pg_type")
        shop.flush()


def test_a_slot_that_the_standby_gave_up(tmp_path: Path) -> None:
    with (
        Cluster() as primary,
        told(primary),
        standby_of(primary, max_standby_streaming_delay="100ms") as standby,
    ):
        database = Database("postgres", primary.host, primary.port, primary.user)
        make_tables(database)
        with following_standby(database, standby, tmp_path) as shop:
            shop.publish("keyed")
            shop.sync(KEYED)
            lose_the_slot(database, shop)
            with pytest.raises(SlotUnusable, match="replayed the removal") as lost:
                shop.sync(KEYED)
            assert "hot_standby_feedback = on" in lost.value.hint


@pytest.mark.skipif(16 not in other_servers(), reason="needs PostgreSQL 16: see .ci/servers")
def test_on_16(cluster: Cluster, tmp_path: Path) -> None:
    """The first version whose standbys decode."""
    settings = {"max_prepared_transactions": "10"}
    with (
        Cluster(binaries=other_servers()[16], settings=settings) as primary,
        standby_of(primary, cluster.binaries, max_standby_streaming_delay="100ms") as standby,
        told(primary),
    ):
        database = Database("postgres", primary.host, primary.port, primary.user)
        make_tables(database)
        work(database, 0)
        for reader in ("sql", "stream"):
            folder = tmp_path / reader
            with following_standby(
                database, standby, folder, reader=reader, publication=f"p_{reader}"
            ) as shop:
                shop.publish("keyed", "plain")
                shop.sync(KEYED, PLAIN)
                work(database, 5000 if reader == "sql" else 9000)
                shop.sync(KEYED, PLAIN, reset=[PLAIN])
                shop.check(KEYED, PLAIN)
                if reader == "stream":
                    lose_the_slot(database, shop)
                    with pytest.raises(SlotUnusable, match="replayed the removal"):
                        shop.sync(KEYED)
