"""xmin and delta_snapshot against any interleaving of sessions: after each sync the copy is what is committed.

The sessions insert, update, change keys, delete, roll back to savepoints, commit, roll back, prepare; and
somebody vacuums, clusters, truncates and changes columns. Nothing else writes while a sync of the first test
runs, so the copy must be right then, not only at the end: for delta_snapshot equal, for xmin but for rows
that were deleted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.batch import AllKeys, Everything, Reading
from pg_ingest.bookmark import Bookmark, dump, load
from pg_ingest.config.selection import Replication
from pg_ingest.errors import SourceBusy
from pg_ingest.methods import delta_snapshot, moment
from pg_ingest.methods.registry import reader_for
from pg_ingest.methods.request import Request
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.session import Session
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.methods.conftest import Pair, by_xmin, delta
from pg_ingest_tests.methods.interleaving import Transactions, before_each

pytestmark = pytest.mark.usefixtures("flushed_at_once")
WRITERS = 3
SETUP = (
    "create table t (id int primary key, owner int, v int) with (autovacuum_enabled = off);"
    " create sequence ids"
)

WRITES = ("insert", "insert", "update", "update", "rekey", "delete", "savepoint", "rollback to")
ENDS = ("commit", "commit", "rollback", "prepare")
UPKEEP = ("vacuum freeze", "vacuum full", "cluster", "truncate", "rewrite", "add column")

actions = st.tuples(
    st.sampled_from(("begin", "begin", *WRITES, *ENDS[1:], *UPKEEP[:1], *3 * ("sync",))),
    st.integers(0, WRITERS - 1),
)
upkeep = st.tuples(st.sampled_from(UPKEEP), st.just(0))
histories = st.lists(st.one_of(*[actions] * 19, upkeep), min_size=30, max_size=60)
between_steps = st.lists(
    st.lists(
        st.tuples(st.sampled_from(("begin", *WRITES, *ENDS)), st.integers(0, WRITERS - 1)),
        max_size=4,
    ),
    max_size=7,
)


@dataclass
class Writer(Transactions):
    """Changes only its own rows, so that nobody waits for anybody."""

    savepoints: int = 0

    def act(self, action: str) -> None:
        match action:
            case "savepoint" if self.open:
                self.connection.execute("savepoint s")
                self.savepoints += 1
            case "rollback to" if self.open and self.savepoints:
                self.connection.execute("rollback to s; release s")
                self.savepoints -= 1
            case "insert" | "update" | "rekey" | "delete" if not self.prepared:
                self.write(action)
            case "begin" if not self.open:
                super().act(action)
                self.savepoints = 0
            case _:
                super().act(action)

    def write(self, action: str) -> None:
        mine = "where id = (select id from t where owner = %s order by v, id limit 1)"
        statement = {
            "insert": "insert into t (id, owner, v) values (nextval('ids'), %s, 0)",
            "update": f"update t set v = v + 1 {mine}",
            "rekey": f"update t set id = nextval('ids') {mine}",
            "delete": f"delete from t {mine}",
        }[action]
        self.connection.execute(statement, (self.number,))


def keep_up(action: str, writers: list[Writer]) -> bool:
    """Maintenance, where nobody holds a lock against it; whether it was that."""
    if action not in UPKEEP:
        return False
    if action == "vacuum freeze" or not any(one.open or one.prepared for one in writers):
        statement = {
            "vacuum freeze": "vacuum (freeze, disable_page_skipping) t",
            "vacuum full": "vacuum full t",
            "cluster": "cluster t using t_pkey",
            "truncate": "truncate t",
            "rewrite": "alter table t alter v type bigint using v + 1000;"
            " alter table t alter v type int using v + 1000",
            "add column": "alter table t drop if exists w; alter table t add w int default 7",
        }[action]
        with closing(writers[0].database.connect()) as connection:
            connection.execute(statement)
    return True


@dataclass
class Copy:
    """A destination in memory, with the destination's own meaning of a scope."""

    session: Session
    replication: Replication
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    bookmark: Bookmark | None = None
    read: int = 0

    def sync(self) -> None:
        table = describe(self.session, self.replication.table)
        request = Request(self.session, self.replication, table, self.bookmark)
        with reader_for(self.replication.method)(request) as reading:
            read = [row for batch in reading.batches for row in batch.rows.to_pylist()]
        self.apply(reading, read)
        assert reading.bookmark is not None
        self.bookmark = load(dump(reading.bookmark))

    def apply(self, reading: Reading, read: list[dict[str, Any]]) -> None:
        listed = {row["id"] for row in read if row.pop("_pgi_listed", False)}
        whole = {row["id"]: row for row in read if row["id"] not in listed}
        assert len(listed) + len(whole) == len(read), "a key came twice"
        self.read = len(whole)
        if isinstance(reading.scope, Everything):
            self.rows = {}
        if isinstance(reading.scope, AllKeys):
            assert listed <= self.rows.keys(), "a row is said to be known that is not"
            self.rows = {key: row for key, row in self.rows.items() if key in listed}
        self.rows |= whole

    def holds(self, committed: list[dict[str, Any]]) -> None:
        """Equal to what is committed; by xmin there may be rows of other keys."""
        there = {row["id"]: row for row in committed}
        seen = self.rows
        if self.replication.method == "xmin":
            seen = {key: row for key, row in self.rows.items() if key in there}
        assert seen == there


@pytest.fixture
def writers(pair: Pair) -> Iterator[list[Writer]]:
    database = pair.database
    database.execute(SETUP)
    made = [Writer(number, database.connect(), database) for number in range(WRITERS)]
    yield made
    for writer in made:
        writer.connection.close()


def committed(pair: Pair) -> list[dict[str, Any]]:
    rows = psycopg.rows.dict_row
    with pair.database.connect() as connection, connection.cursor(row_factory=rows) as cursor:
        return cursor.execute("select * from t").fetchall()


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
METHODS = pytest.mark.parametrize("replication", [by_xmin("t"), delta("t")], ids=["xmin", "delta"])


@METHODS
@settings(max_examples=12, deadline=None, suppress_health_check=QUIET)
@given(history=histories)
def test_any_interleaving(
    pair: Pair, writers: list[Writer], replication: Replication, history: list[Any]
) -> None:
    pair.database.execute("drop table t; drop sequence ids")
    pair.database.execute(SETUP)
    with pair.server().session(pair.database.name) as session:
        copy = Copy(session, replication)
        try:
            for action, number in history:
                if action == "sync":
                    copy.sync()
                    copy.holds(committed(pair))
                elif not keep_up(action, writers):
                    writers[number].act(action)
        finally:
            for writer in writers:
                writer.act("commit")
        for _ in range(2):
            copy.sync()
            copy.holds(committed(pair))
        copy.sync()
        assert copy.read == 0


STEPS = (
    (moment, "files_of"),
    (delta_snapshot, "count_rows"),
    (moment, "read_copy_csv"),
    (moment, "of_these_files"),
)


@METHODS
@settings(max_examples=12, deadline=None, suppress_health_check=QUIET)
@given(history=histories, between=st.lists(between_steps, max_size=8))
def test_any_interleaving_between_the_steps_of_a_sync(
    pair: Pair,
    writers: list[Writer],
    replication: Replication,
    history: list[Any],
    between: list[Any],
) -> None:
    """`between[n][m]` happens before step m of sync n; what is missed is noticed at the end."""
    pair.database.execute("drop table t; drop sequence ids")
    pair.database.execute(SETUP)
    waiting: list[list[tuple[str, int]]] = []

    def write() -> None:
        for action, number in waiting.pop(0) if waiting else ():
            writers[number].act(action)

    with before_each(STEPS, write), pair.server().session(pair.database.name) as session:
        copy = Copy(session, replication)
        for action, number in history:
            if action == "sync":
                waiting[:] = between.pop(0) if between else []
                copy.sync()
            elif not keep_up(action, writers):
                writers[number].act(action)
        waiting.clear()
        for writer in writers:
            writer.act("commit")
        copy.sync()
    copy.holds(committed(pair))


@METHODS
def test_writers_that_write_while_a_sync_runs(
    pair: Pair, writers: list[Writer], replication: Replication
) -> None:
    def write(writer: Writer, dice: random.Random) -> None:
        for _ in range(dice.randint(1, 6)):
            writer.act(dice.choice(["begin", *WRITES]))
        writer.act(dice.choice(ENDS[:3]))

    with pair.server().session(pair.database.name) as session:
        copy = Copy(session, replication)
        with ExitStack() as running:
            emptying = running.enter_context(pair.database.connect())
            running.enter_context(meanwhile(lambda: emptying.execute("truncate t"), pause=0.2))
            for writer in writers:
                dice = random.Random(writer.number)
                running.enter_context(meanwhile(partial(write, writer, dice)))
            for _ in range(30):
                with suppress(SourceBusy):
                    copy.sync()
        copy.sync()
        copy.holds(committed(pair))
