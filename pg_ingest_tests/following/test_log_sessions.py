"""Sessions that write at the same time: the destination ends up equal to the source."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_ingest.errors import SourceBusy
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import following
from pg_ingest_tests.kinds_of_tables import BIG, NAMES, REPLICATIONS, equal, setup


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
