"""Key-based against any interleaving of sessions: after each sync the copy is what is committed.

The sessions hand out keys from one sequence, some when they begin (as `now()` does) and some with each
statement (as a default does), write, commit, roll back, prepare. Nothing else writes while a sync runs, so
what is committed then is what the destination must hold then, not only at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.batch import Everything
from pg_ingest.bookmark import Bookmark, dump, load
from pg_ingest.methods import key_based, position, rows
from pg_ingest.methods.request import Request
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.session import Session
from pg_ingest_tests.meanwhile import meanwhile
from pg_ingest_tests.methods.conftest import Pair, keyed
from pg_ingest_tests.methods.interleaving import Transactions, before_each

WRITERS = 3
BY_KEY = keyed("t", "k")
SETUP = """
create table t (id int primary key, owner int, k bigint, v int);
create sequence ids;
create sequence ticks increment 1;
select nextval('ticks'), nextval('ids');
"""

actions = st.tuples(
    st.sampled_from(
        ("begin early", "begin late", "insert", "insert", "update", "commit", "rollback", "prepare")
        + 2 * ("sync",)
    ),
    st.integers(0, WRITERS - 1),
)
histories = st.lists(actions, min_size=10, max_size=50)
deeds = st.tuples(
    st.sampled_from(("begin early", "begin late", "insert", "update", "commit", "prepare")),
    st.integers(0, WRITERS - 1),
)
between_steps = st.lists(st.lists(deeds, max_size=4), max_size=8)


@dataclass
class Writer(Transactions):
    """Changes only its own rows, so that nobody waits for anybody."""

    key: int | None = None

    def act(self, action: str) -> None:
        match action:
            case "begin early" | "begin late" if not self.open and not self.prepared:
                super().act("begin")
                self.key = self.tick() if action == "begin early" else None
            case "insert" | "update" if not self.prepared:
                self.write(action)
            case _:
                super().act(action)

    def tick(self) -> int:
        row = self.connection.execute("select nextval('ticks')").fetchone()
        assert row is not None
        return int(row[0])

    def write(self, action: str) -> None:
        """With the key taken at the begin, else with one that the statement itself takes."""
        key = self.key if self.open else None
        if action == "insert":
            statement = (
                "insert into t values (nextval('ids'), %s, coalesce(%s, nextval('ticks')), 0)"
            )
            self.connection.execute(statement, (self.number, key))
        else:
            self.connection.execute(
                "update t set k = coalesce(%s, nextval('ticks')), v = v + 1 where id ="
                " (select id from t where owner = %s order by v, id limit 1)",
                (key, self.number),
            )

    def finish(self) -> None:
        self.act("commit")


@dataclass
class Copy:
    """A destination in memory, with the destination's own meaning of a scope."""

    session: Session
    rows: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    bookmark: Bookmark | None = None

    def sync(self) -> None:
        table = describe(self.session, BY_KEY.table)
        with key_based.read(Request(self.session, BY_KEY, table, self.bookmark)) as reading:
            read = [
                tuple(row.values()) for batch in reading.batches for row in batch.rows.to_pylist()
            ]
        if isinstance(reading.scope, Everything):
            self.rows = {}
        self.rows |= {row[0]: row for row in read}
        assert reading.bookmark is not None
        self.bookmark = load(dump(reading.bookmark))

    def contents(self) -> list[tuple[Any, ...]]:
        return sorted(self.rows.values())


@pytest.fixture
def writers(pair: Pair) -> Iterator[list[Writer]]:
    database = pair.database
    database.execute(SETUP)
    made = [Writer(number, database.connect(), database) for number in range(WRITERS)]
    yield made
    for writer in made:
        writer.connection.close()


def play(
    history: list[tuple[str, int]],
    writers: list[Writer],
    sync: Callable[[], None],
    contents: Callable[[], list[tuple[Any, ...]]],
) -> None:
    """Every action in turn; compare after each sync and, all being committed, at the end."""
    with closing(writers[0].database.connect()) as reader:

        def compare() -> None:
            sync()
            committed = reader.execute("select * from t order by id").fetchall()
            assert contents() == committed

        try:
            for action, number in history:
                if action == "sync":
                    compare()
                else:
                    writers[number].act(action)
        finally:
            for writer in writers:
                writer.finish()
        compare()
        compare()


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(history=histories)
def test_any_interleaving(
    pair: Pair, writers: list[Writer], monkeypatch: pytest.MonkeyPatch, history: list[Any]
) -> None:
    monkeypatch.setattr(position, "PATIENCE", 0)
    pair.database.execute("truncate t")
    with pair.server().session(pair.database.name) as session:
        copy = Copy(session)
        play(history, writers, copy.sync, copy.contents)


STEPS = (
    (position, "greatest_key"),
    (position, "running_transactions"),
    (position, "still_running"),
    (position, "prepared_transactions"),
    (rows, "files_of"),
)


@settings(max_examples=50, deadline=None, suppress_health_check=QUIET)
@given(history=histories, between=st.lists(between_steps, max_size=8))
def test_any_interleaving_between_the_steps_of_a_sync(
    pair: Pair, writers: list[Writer], history: list[Any], between: list[Any]
) -> None:
    """`between[n][m]` happens before step m of sync n; what is missed is noticed at the end."""
    pair.database.execute("truncate t")
    waiting: list[list[tuple[str, int]]] = []

    def write() -> None:
        for action, number in waiting.pop(0) if waiting else ():
            writers[number].act(action)

    with before_each(STEPS, write) as patch:
        patch.setattr(position, "PATIENCE", 0)
        with pair.server().session(pair.database.name) as session:
            copy = Copy(session)

            def sync() -> None:
                waiting[:] = between.pop(0) if between else []
                copy.sync()

            for action, number in history:
                sync() if action == "sync" else writers[number].act(action)
            for writer in writers:
                writer.finish()
            waiting.clear()
            copy.sync()
    assert copy.contents() == pair.database.rows("select * from t order by id")


@settings(max_examples=2, deadline=None, suppress_health_check=QUIET)
@given(history=histories)
def test_any_interleaving_into_a_file(
    pair: Pair, writers: list[Writer], monkeypatch: pytest.MonkeyPatch, history: list[Any]
) -> None:
    monkeypatch.setattr(position, "PATIENCE", 0)
    pair.database.execute("truncate t")
    pair.path.unlink(missing_ok=True)
    play(
        history,
        writers,
        lambda: assert_total(pair),
        lambda: sorted(pair.stored(BY_KEY, "id, owner, k, v")),
    )


def assert_total(pair: Pair) -> None:
    report = pair.sync(BY_KEY)
    assert report.counts.total == len(pair.stored(BY_KEY))
    assert not pair.sync(BY_KEY).counts.changed


@pytest.mark.parametrize("patience", [0, 0.05])
def test_writers_that_write_while_a_sync_runs(
    pair: Pair, writers: list[Writer], monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(position, "PATIENCE", patience)

    def write(writer: Writer, dice: random.Random) -> None:
        for _ in range(dice.randint(1, 6)):
            writer.act(dice.choice(["begin early", "insert", "update", "update"]))
        writer.act(dice.choice(["commit", "commit", "rollback"]))

    with pair.server().session(pair.database.name) as session:
        copy = Copy(session)
        with ExitStack() as running:
            for writer in writers:
                dice = random.Random(writer.number)
                running.enter_context(meanwhile(partial(write, writer, dice)))
            for _ in range(80):
                copy.sync()
        copy.sync()
    assert copy.contents() == pair.database.rows("select * from t order by id")
