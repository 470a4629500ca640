"""Whatever happens at the source, the destination is equal to it after every sync, table by table.

Sessions of the source are driven step by step, so an example can be repeated; what really happens at once
is tested with threads at the end. A statement that fails (a key that exists, a row that another session has
locked) is undone by its savepoint and does not count.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.changelog import capture as capturing
from pg_ingest.config.method import Shape
from pg_ingest.demo.cluster import Cluster
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.errors import DestinationFailed, SourceBusy
from pg_ingest.methods import log_based
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.following import Following, following, logged

_numbers = itertools.count(1)

BIG = ("z" * 9000, "y" * 5000, "small", None)
"""The first two are stored out of line: an update that leaves them alone does not send them."""

_COLUMNS = "(id int {}, t text, n numeric(8,2), big text)"
TABLES = {
    "keyed": ("primary key",),
    "soft": ("primary key",),
    "plain": ("", "alter table plain replica identity full"),
    "full": ("primary key", "alter table full_ replica identity full"),
    "indexed": (
        "not null unique",
        "alter table indexed replica identity using index indexed_id_key",
    ),
    "parted": (
        "primary key",
        "create table parted1 partition of parted for values from (minvalue) to (6)",
        "create table parted2 partition of parted for values from (6) to (maxvalue)",
    ),
}
NAMES = tuple(name + "_" * (name == "full") for name in TABLES)
REPLICATIONS = {
    name: logged(name, shape=Shape.SOFT_DELETE if name == "soft" else Shape.LIVE) for name in NAMES
}


def setup(database: Database, columns: str = _COLUMNS) -> None:
    for (name, (key, *more)), real in zip(TABLES.items(), NAMES, strict=True):
        partitioned = " partition by range (id)" if name == "parted" else ""
        database.execute(f"create table {real} {columns.format(key)}{partitioned}")
        for statement in more:
            database.execute(statement)
    for name in ("parted1", "parted2", *NAMES):
        if name != "parted":
            database.execute(f"alter table {name} alter big set storage external")


def equal(shop: Following, name: str) -> None:
    live = "_pgi_deleted_at is null" if name == "soft" else "true"
    assert shop.stored(name, live) == shop.source(name), name


# ---------------------------------------------------------------- steps of an example


@dataclass(frozen=True)
class Write:
    session: int
    table: str
    statement: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Control:
    session: int
    statement: str


@dataclass(frozen=True)
class Sync:
    """Capture and apply; `without` is not configured this time, `broken` cannot be stored."""

    reset: frozenset[str] = frozenset()
    without: str = ""
    broken: str = ""


IDS = st.integers(1, 9)
TEXTS = st.sampled_from(["x", "", None, "ä€😀", "a\tb\\n"])
NUMBERS = st.sampled_from(["1.00", "-2.50", None])


def _writes() -> st.SearchStrategy[Write]:
    big = st.sampled_from(BIG)
    kinds: list[tuple[str, tuple[st.SearchStrategy[Any], ...]]] = [
        ("insert into {} values (%s, %s, %s, %s)", (IDS, TEXTS, NUMBERS, big)),
        ("update {} set t = %s where id = %s", (TEXTS, IDS)),
        ("update {} set big = %s, n = n + 1 where id = %s", (big, IDS)),
        ("update {} set id = %s where id = %s", (IDS, IDS)),
        ("update {} set id = id + 10 where id < %s", (IDS,)),
        ("delete from {} where id = %s", (IDS,)),
        ("delete from {} where id > %s", (IDS,)),
    ]
    return st.one_of(
        *(
            st.builds(
                Write, st.integers(0, 2), st.sampled_from(NAMES), st.just(text), st.tuples(*values)
            )
            for text, values in [kinds[0], kinds[0], *kinds]
        )
    )


CONTROLS = st.builds(
    Control,
    st.integers(0, 2),
    st.sampled_from(
        ["begin", "begin", "commit", "commit", "rollback", "savepoint s", "rollback to s"]
    ),
)
TRUNCATES = st.builds(
    lambda session, tables: Control(session, f"truncate {', '.join(sorted(tables))}"),
    st.integers(0, 2),
    st.sets(st.sampled_from(NAMES), min_size=1, max_size=3),
)
SYNCS = st.one_of(
    st.just(Sync()),
    st.just(Sync()),
    st.builds(Sync, st.frozensets(st.sampled_from(NAMES), max_size=2)),
    st.builds(Sync, without=st.sampled_from(NAMES)),
    st.builds(Sync, broken=st.sampled_from(NAMES)),
)
STEPS = st.lists(
    st.one_of(*[_writes()] * 6, CONTROLS, CONTROLS, TRUNCATES, SYNCS), min_size=10, max_size=40
)


@dataclass
class Source:
    """Three sessions of the source and what follows it."""

    shop: Following
    sessions: list[psycopg.Connection[Any]]
    away: set[str] = field(default_factory=set)

    def begin(self) -> None:
        self.end("rollback")
        self.sessions[0].execute(f"truncate {', '.join(NAMES)}")
        for name in NAMES:
            self.sessions[0].execute(
                f"insert into {name} select n, 'first', n, %s from generate_series(1, 4) n",
                (BIG[0],),
            )

    def end(self, how: str) -> None:
        for session in self.sessions:
            if session.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                session.execute(how)

    def step(self, step: Write | Control | Sync) -> None:
        match step:
            case Write():
                self._write(self.sessions[step.session], step)
            case Control():
                self._control(self.sessions[step.session], step.statement)
            case Sync():
                self._sync(step)

    def _write(self, session: psycopg.Connection[Any], step: Write) -> None:
        statement = step.statement.format(step.table)
        try:
            with session.transaction():
                session.execute(statement, step.values)
        except (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable):
            pass

    def _control(self, session: psycopg.Connection[Any], statement: str) -> None:
        inside = session.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        if statement.startswith("truncate"):
            try:
                with session.transaction():
                    session.execute(statement)
            except psycopg.errors.LockNotAvailable:
                return
            if inside:  # its lock would keep our own readers out
                session.execute("commit")
        elif inside is not (statement == "begin"):
            try:
                session.execute(statement)
            except psycopg.errors.InvalidSavepointSpecification:
                session.execute("rollback")

    def _sync(self, step: Sync) -> None:
        names = [name for name in NAMES if name != step.without]
        if self.away - {step.without} or step.without:
            self.end("commit")  # who comes back waits for those who write
        self.away = {step.without} - {""}
        tables = [REPLICATIONS[name] for name in names]
        capture = self.shop.capture(*tables)
        assert capture.failures == {}
        with ExitStack() as broken:
            if step.broken:
                broken.enter_context(down(step.broken))
            applied = self.shop.apply(
                capture, *tables, reset=[REPLICATIONS[n] for n in step.reset - {step.without}]
            )
        for name in names:
            error = applied[name].error
            if error is None:
                equal(self.shop, name)
            else:
                assert (name, type(error)) == (step.broken, DestinationFailed)


def down(name: str) -> Any:
    """The destination refuses that table."""
    stage = DuckDbDestination.stage

    def refusing(
        self: DuckDbDestination, stream: Any, target: Any, *more: Any, **options: Any
    ) -> Any:
        if target.table == name:
            raise DestinationFailed(f"no room for {name}")
        return stage(self, stream, target, *more, **options)

    return patch.object(DuckDbDestination, "stage", refusing)


@pytest.fixture(scope="module", params=["sql", "stream"])
def source(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Source]:
    """All kinds of tables, followed since they were made."""
    name = f"equal{os.getpid()}_{next(_numbers)}"
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute(f"create database {name} template template0")
    database = Database(name, cluster.host, cluster.port, cluster.user)
    setup(database)
    options = "-c lock_timeout=5ms -c deadlock_timeout=1s"
    with (
        ExitStack() as opened,
        following(database, tmp_path_factory.mktemp("equal"), reader=request.param) as shop,
    ):
        shop.sync(*REPLICATIONS.values())
        sessions = [opened.enter_context(database.connect(options=options)) for _ in range(3)]
        yield Source(shop, sessions)
    admin.execute(f"drop database {name} with (force)")


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, size=st.sampled_from([1, 3, 250_000]), messages=st.sampled_from([4, 100_000]))
def test_equal_after_every_sync(
    source: Source, steps: Sequence[Write | Control | Sync], size: int, messages: int
) -> None:
    with (
        patch.object(log_based, "STEP_ROWS", size),
        patch.object(capturing, "FIRST_MESSAGES", messages),
    ):
        source.begin()
        for step in steps:
            source.step(step)
        source.end("commit")
        source.step(Sync())


# ---------------------------------------------------------------- really at once


class Writers:
    """Sessions that change a table at random until they are stopped."""

    def __init__(self, database: Database, names: Sequence[str], seed: int, count: int = 4) -> None:
        self.database = database
        self.names = names
        self.stopped = threading.Event()
        self.committed = 0
        self.failures: list[BaseException] = []
        self.threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 100 + number),))
            for number in range(count)
        ]

    def __enter__(self) -> Writers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, transactions: int) -> None:
        until = self.committed + transactions
        while self.committed < until and not self.failures:
            self.stopped.wait(0.005)

    def _run(self, chance: random.Random) -> None:
        try:
            with self.database.connect() as connection:
                while not self.stopped.is_set():
                    self._transaction(connection, chance)
        except BaseException as failure:
            self.failures.append(failure)

    def _transaction(self, connection: psycopg.Connection[Any], chance: random.Random) -> None:
        try:
            with connection.transaction():
                for _ in range(chance.randint(1, 6)):
                    self._change(connection, chance)
                if chance.random() < 0.1:
                    raise psycopg.Rollback
            self.committed += 1
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            pass

    def _change(self, connection: psycopg.Connection[Any], chance: random.Random) -> None:
        number, other = chance.randint(0, 60), chance.randint(0, 60)
        text, big = chance.choice(["x", None, "", "ä€😀"]), chance.choice(BIG)
        choices: Sequence[tuple[float, str, tuple[Any, ...]]] = (
            (0.35, "insert into {} values (%s, %s, 1, %s)", (number, text, big)),
            (0.60, "update {} set t = %s where id = %s", (str(chance.random()), number)),
            (0.72, "update {} set id = %s where id = %s", (other, number)),
            (0.82, "update {} set big = %s where id = %s", (big, number)),
            (0.99, "delete from {} where id = %s", (number,)),
            (1.00, "truncate {}", ()),
        )
        drawn = chance.random()
        statement, values = next(
            (text, values) for limit, text, values in choices if drawn <= limit
        )
        try:
            with connection.transaction():
                connection.execute(statement.format(chance.choice(self.names)), values)
                if chance.random() < 0.1:
                    raise psycopg.Rollback
        except psycopg.errors.UniqueViolation:
            pass


def patiently(sync: Callable[[], object]) -> None:
    """A table is not read while it is truncated, and joins when no transaction holds it: try again."""
    for _ in range(20):
        try:
            sync()
        except SourceBusy:
            continue
        return
    raise AssertionError("the tables were busy all the time")


@pytest.mark.parametrize("reader", ["sql", "stream"])
def test_equal_under_sessions_that_write_at_once(
    database: Database, tmp_path: Path, reader: str
) -> None:
    """Tables are reset and leave and return meanwhile; who waits for a writer in vain tries again."""
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    setup(database)
    everything = list(REPLICATIONS.values())
    for name in NAMES:
        database.execute(f"insert into {name} select n, 'first' from generate_series(1, 40) n")
    with following(database, tmp_path, reader=reader) as shop:
        with Writers(database, NAMES, seed) as writers:
            for _ in range(4):
                tables = chance.sample(everything, chance.choice([5, 6, 6]))
                resets = [one for one in tables if chance.random() < 0.15]
                patiently(partial(shop.sync, *tables, reset=resets))
                writers.wait_for(30)
        assert writers.failures == []
        shop.sync(*everything)
        for name in NAMES:
            equal(shop, name)
        assert {one.report for one in shop.sync(*everything).values()} == {None}, seed


def test_the_same_source_for_two_destinations(database: Database, tmp_path: Path) -> None:
    """One capture feeds both, each from its own bookmarks."""
    setup(database)
    tables = [REPLICATIONS["keyed"], REPLICATIONS["plain"]]
    with following(database, tmp_path) as shop:
        shop.sync(*tables)
        second = replace(shop, warehouse="second.duckdb")
        second.apply(shop.capture(*tables), *tables)
        database.execute("insert into keyed values (1, 'x')")
        capture = shop.capture(*tables)
        for one in (second, shop):
            one.apply(capture, *tables)
            equal(one, "keyed")
