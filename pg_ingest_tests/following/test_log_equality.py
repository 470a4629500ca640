"""Whatever happens at the source, the destination is equal to it after every sync, table by table.

Sessions of the source are driven step by step, so an example can be repeated. A statement that fails (a key
that exists, a row that another session has locked) is undone by its savepoint and does not count.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pg_ingest.changelog import capture as capturing
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.errors import DestinationFailed
from pg_ingest.methods import log_steps
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, following
from pg_ingest_tests.kinds_of_tables import BIG, NAMES, REPLICATIONS, equal, setup
from pg_ingest_tests.servers import needs_system_server

_numbers = itertools.count(1)


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
    replications: Mapping[str, Replication] = field(default_factory=lambda: REPLICATIONS)
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
        tables = [self.replications[name] for name in names]
        capture = self.shop.capture(*tables)
        assert capture.failures == {}
        with ExitStack() as broken:
            if step.broken:
                broken.enter_context(down(step.broken))
            applied = self.shop.apply(
                capture,
                *tables,
                reset=[self.replications[name] for name in step.reset - {step.without}],
            )
        for name in names:
            error = applied[name].error
            if error is None:
                equal(self.shop, name, self.replications[name].where)
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


WAYS = [
    ("pgoutput", "sql"),
    ("pgoutput", "stream"),
    pytest.param(("wal2json", "sql"), marks=needs_system_server),
    pytest.param(("wal2json", "stream"), marks=needs_system_server),
]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def source(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Source]:
    """All kinds of tables, followed since they were made."""
    plugin, reader = request.param
    server = "cluster" if plugin == "pgoutput" else "wal2json_cluster"
    cluster: Cluster = request.getfixturevalue(server)
    name = f"equal{os.getpid()}_{next(_numbers)}"
    admin = Database("postgres", cluster.host, cluster.port, cluster.user)
    admin.execute(f"create database {name} template template0")
    database = Database(name, cluster.host, cluster.port, cluster.user)
    setup(database)
    if plugin == "wal2json":  # without a key it must be able to tell NULL from NaN
        database.execute("create domain price as numeric(8,2)")
        database.execute("alter table plain alter n type price")
    options = "-c lock_timeout=5ms -c deadlock_timeout=1s"
    with (
        ExitStack() as opened,
        following(database, tmp_path_factory.mktemp("equal"), reader=reader, plugin=plugin) as shop,
    ):
        shop.sync(*REPLICATIONS.values())
        sessions = [opened.enter_context(database.connect(options=options)) for _ in range(3)]
        yield Source(shop, sessions)
    admin.execute(f"drop database {name} with (force)")


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, size=st.sampled_from([1, 3, 250_000]), messages=st.sampled_from([4, 100_000]))
def test_equal_after_every_sync(
    source: Source, steps: Sequence[Write | Control | Sync], size: int, messages: int
) -> None:
    with (
        patch.object(log_steps, "STEP_ROWS", size),
        patch.object(capturing, "FIRST_MESSAGES", messages),
    ):
        source.begin()
        for step in steps:
            source.step(step)
        source.end("commit")
        source.step(Sync())
