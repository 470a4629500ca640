"""A standby is followed by the log with the same guarantees as a primary."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.changelog import capture as capturing
from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import MethodUnavailable, SlotUnusable, SourceBusy
from pg_ingest.following import follow_log
from pg_ingest.following.share_anchor import SharedAnchor
from pg_ingest.loading.replicate import replicate
from pg_ingest.methods import log_steps
from pg_ingest.postgres import anchor as anchors
from pg_ingest.postgres import protocol_slot
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import logged
from pg_ingest_tests.following.test_log_equality import STEPS, Control, Source, Sync, Write
from pg_ingest_tests.kinds_of_tables import REPLICATIONS, setup
from pg_ingest_tests.methods.conftest import delta
from pg_ingest_tests.methods.test_standby import Standby
from pg_ingest_tests.postgres.test_anchor import wait_until
from pg_ingest_tests.standby import FollowedStandby, following_standby, standby_of, told

T, U = logged("t"), logged("u")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def standby(cluster: Cluster) -> Iterator[Standby]:
    with standby_of(cluster) as running:
        yield running


@pytest.fixture(params=["sql", "stream"])
def shop(
    cluster: Cluster,
    database: Database,
    standby: Standby,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[FollowedStandby]:
    """A table with a key and one without, at a primary that says at once which transactions run."""
    database.execute(
        "create table t (id int primary key, v text); create table u (id int, v text);"
        " alter table u replica identity full;"
        " insert into t select g, 'a' from generate_series(1, 9) g;"
        " insert into u select id % 4, v from t"
    )
    with (
        told(cluster),
        following_standby(database, standby, tmp_path, reader=request.param) as found,
    ):
        yield found


ONE_READER = pytest.mark.parametrize("shop", ["sql"], indirect=True)


def test_rows_and_changes(database: Database, shop: FollowedStandby) -> None:
    shop.publish("t", "u")
    first = shop.sync(T, U)
    assert [one.report.phase for one in first.values() if one.report] == ["snapshot"] * 2
    shop.check(T, U)
    database.execute(
        "update t set v = 'b' where id < 4; delete from t where id > 7; insert into u values (1, 'a')"
    )
    shop.sync(T, U)
    shop.check(T, U)
    assert {one.report for one in shop.sync(T, U).values()} == {None}
    database.execute("truncate u; insert into u values (2, null)")
    shop.sync(T, U)
    shop.check(T, U)
    database.execute("alter table t add w int default 7; update t set w = 8 where id = 1")
    shop.sync(T, U)
    shop.check(T, U)
    assert "snapshot" not in {r.report.phase for r in shop.sync(T, U).values() if r.report}


@ONE_READER
def test_what_another_method_has_stored_is_read_anew(
    database: Database, shop: FollowedStandby
) -> None:
    shop.publish("t")
    shop.flush()
    replicate(shop.server, shop.destination, delta("t"), database.name, max_rejected=0)
    database.execute("delete from t where id = 1")
    with patch.object(
        SharedAnchor, "give_up", autospec=True, side_effect=SharedAnchor.give_up
    ) as gave_up:
        report = shop.sync(T)["t"].report
    assert report is not None
    assert (
        "read anew: the method was delta_snapshot before: the source is a standby" in report.notes
    )
    assert report.phase == "snapshot"
    assert gave_up.call_count == 2  # before the only one was made, and at the end
    shop.check(T)


@dataclass(slots=True)
class Writers:
    """Several transactions at a time, until they are told to end; each changes several rows of both tables."""

    database: Database
    stop: threading.Event

    def write(self, number: int) -> None:
        with self.database.connect(autocommit=False) as connection:
            for n in itertools.count(1):
                if self.stop.is_set():
                    return
                key = number * 1000 + n % 50
                connection.execute(
                    "insert into t values (%s, 'new') on conflict (id) do update set v = t.v || 'x'",
                    [key],
                )
                connection.execute("insert into u values (%s, 'x')", [n % 5])
                connection.execute("savepoint s")
                connection.execute("update t set v = left(v, 3) || %s where id = %s", [n, n % 9])
                if n % 3:
                    connection.execute("release s")
                else:
                    connection.execute("rollback to s")
                connection.execute(
                    "delete from u where ctid in (select ctid from u where id = %s limit 1)",
                    [n % 7],
                )
                if n % 11 == 0:
                    connection.rollback()
                else:
                    connection.commit()


def test_while_it_is_written_to(
    database: Database, shop: FollowedStandby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables join again and again under three writers; everything is there once.

    One reader goes the way of servers that do not tell running transactions about publications.
    """
    if shop.reader == "stream":
        monkeypatch.setattr(follow_log, "_ATTENTIVE", {99: 990000})
    writers = Writers(database, threading.Event())
    threads = [threading.Thread(target=writers.write, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        shop.publish("t", "u")
        for _ in range(2):
            shop.sync(T, U, reset=[T, U])
            shop.sync(T, U)
    finally:
        writers.stop.set()
        for thread in threads:
            thread.join()
    shop.sync(T, U)
    shop.check(T, U)


@ONE_READER
def test_a_transaction_that_began_before_the_table_was_published(
    database: Database, shop: FollowedStandby
) -> None:
    """The snapshot waits for it; what it wrote before the publication is in no log."""
    shop.publish("u")
    shop.sync(U)
    asked = "select 1 from pg_replication_slots where temporary and database = current_database()"
    with database.connect(autocommit=False) as late, database.connect() as prepared:
        late.execute("insert into t values (100, 'late'); insert into u values (100, 'late')")
        prepared.execute("begin; insert into t values (101, 'late')")
        prepared.execute(f"prepare transaction '{database.name}'")
        database.execute("alter publication followed add table t")

        def end() -> None:
            wait_until(lambda: bool(shop.database.rows(asked)))
            late.execute("insert into t values (102, 'late'); update t set v = 'late' where id = 1")
            late.commit()
            database.execute("update t set v = v || '!' where id in (1, 2, 100)")
            prepared.execute(f"commit prepared '{database.name}'")

        ending = threading.Thread(target=end)
        ending.start()
        shop.sync(T, U)
        ending.join()
    shop.sync(T, U)
    shop.check(T, U)


@ONE_READER
def test_a_publication_that_lacks_tables_is_waited_for(
    database: Database, shop: FollowedStandby
) -> None:
    with pytest.raises(SlotUnusable, match="a standby cannot make it") as missing:
        shop.sync(T, U)
    assert "on the primary: CREATE PUBLICATION" in missing.value.hint
    shop.publish("t")
    capture = shop.capture(T, U)
    assert set(capture.failures) == {U.table}
    hint = capture.failures[U.table].hint
    assert shop.apply(capture, T)["t"].error is None
    database.execute(hint.removeprefix("on the primary: ").partition(";")[0])
    shop.sync(T, U)
    shop.check(T, U)


@ONE_READER
def test_nothing_is_left_behind(
    standby: Standby, shop: FollowedStandby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary slot ends with its connection; one snapshot serves all tables, one connection is enough."""
    shop.limits["connections"] = 1
    shop.publish("t", "u")
    shop.capture(T, U)
    made = list[str]()
    make_slot = protocol_slot.make_slot

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(arguments[2])
        return make_slot(*arguments, **options)

    monkeypatch.setattr(anchors, "make_slot", counted)
    shop.sync(T, U)
    assert len(made) == 1
    slots = "select slot_name from pg_replication_slots where database = current_database()"
    assert shop.database.rows(slots) == [(shop.slot,)]


def test_a_primary_that_says_nothing(
    database: Database, standby: Standby, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute("create table t (id int primary key)")
    with (
        following_standby(database, standby, tmp_path) as quiet,
        patch.object(protocol_slot, "_TELL_SECONDS", 0.1),
    ):
        quiet.limits["query_timeout"] = 1
        quiet.publish("t")
        database.execute("checkpoint")
        with database.connect(autocommit=False) as open_one:
            open_one.execute("insert into t values (1)")
            with pytest.raises(SourceBusy, match="not told in time") as waited:
                quiet.capture(T)
        assert "SELECT pg_log_standby_snapshot();" in waited.value.hint
        assert "waiting for the primary" in caplog.text
        slots = "select 1 from pg_replication_slots where database = current_database()"
        assert quiet.database.rows(slots) == []


@ONE_READER
def test_wal2json_is_refused(shop: FollowedStandby) -> None:
    shop.plugin = "wal2json"
    with pytest.raises(MethodUnavailable, match="not possible with wal2json"):
        shop.capture(T)


@ONE_READER
def test_a_heartbeat_is_told_to_be_impossible(shop: FollowedStandby) -> None:
    shop.log["heartbeat"] = {"every": "1s"}
    shop.publish("t")
    shop.capture(T)
    time.sleep(1.1)
    assert any("no heartbeat from a standby" in note for note in shop.capture(T).notes)


class StandbySource(Source):
    """Tables that join wait for all transactions of the primary, so these have ended before.

    One that could not be stored joins with the next sync; so does a partitioned one that was truncated.
    """

    unfinished = False

    def _sync(self, step: Sync) -> None:
        if step.reset or self.unfinished:
            self.end("commit")
        self.unfinished = bool(step.broken)
        super()._sync(step)

    def _control(self, session: psycopg.Connection[Any], statement: str) -> None:
        self.unfinished |= statement.startswith("truncate")
        super()._control(session, statement)


@pytest.fixture(scope="module")
def source(
    cluster: Cluster, standby: Standby, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandbySource]:
    """All kinds of tables."""
    name = f"equal_standby{os.getpid()}_{next(_numbers)}"
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute(f"create database {name} template template0")
    database = Database(name, cluster.host, cluster.port, cluster.user)
    setup(database)
    options = "-c lock_timeout=5ms -c deadlock_timeout=1s"
    folder = tmp_path_factory.mktemp("equal")
    with (
        ExitStack() as opened,
        told(cluster),
        following_standby(database, standby, folder) as shop,
    ):
        shop.publish(*(one.table.name for one in REPLICATIONS.values()))
        shop.sync(*REPLICATIONS.values())
        sessions = [opened.enter_context(database.connect(options=options)) for _ in range(3)]
        shop.limits["query_timeout"] = 40
        yield StandbySource(shop, sessions)
    admin.execute(f"drop database {name} with (force)")


@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=STEPS,
    size=st.sampled_from([1, 3, 250_000]),
    messages=st.sampled_from([4, 100_000]),
    reader=st.sampled_from(["sql", "stream"]),
)
def test_equal_after_every_sync(
    source: StandbySource,
    steps: Sequence[Write | Control | Sync],
    size: int,
    messages: int,
    reader: str,
) -> None:
    source.shop.reader = reader
    with (
        patch.object(log_steps, "STEP_ROWS", size),
        patch.object(capturing, "FIRST_MESSAGES", messages),
    ):
        source.begin()
        for step in steps:
            source.step(step)
        source.end("commit")
        source.step(Sync())
