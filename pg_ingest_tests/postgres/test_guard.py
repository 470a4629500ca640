"""What a source may be asked for by this process as a whole."""

from __future__ import annotations

import threading

import pytest
from psycopg import sql

from pg_ingest.config.model import Limits
from pg_ingest.postgres.guard import Throttle, guard_of
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.server import Server
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for

MANY = SelectQuery(
    TableId("public", "many"), sql.SQL("SELECT repeat('x', 99) FROM generate_series(1, 10000)"), ()
)
"""A row is 100 bytes, the whole a million."""


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_rate_holds_over_time(clock: Clock) -> None:
    throttle = Throttle(100, lambda: clock.now, clock.sleep)
    for _ in range(10):
        throttle.spend(50)
    assert clock.now == pytest.approx(1005.0)


def test_time_that_was_not_used_is_not_saved_up(clock: Clock) -> None:
    throttle = Throttle(100, lambda: clock.now, clock.sleep)
    throttle.spend(100)
    clock.now += 60
    throttle.spend(100)
    assert clock.slept == [pytest.approx(1.0), pytest.approx(1.0)]


def test_all_who_share_it_share_the_rate() -> None:
    now = 0.0
    waits: list[float] = []
    throttle = Throttle(100, lambda: now, waits.append)
    threads = [threading.Thread(target=throttle.spend, args=(100,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == pytest.approx([1, 2, 3, 4, 5])


def test_without_a_rate_nobody_waits(clock: Clock) -> None:
    Throttle(None, lambda: clock.now, clock.sleep).spend(1 << 40)
    assert clock.slept == []


def test_bytes_come_evenly() -> None:
    assert Throttle(400_000).portion(16 << 20) == 100_000
    assert Throttle(400_000).portion(1000) == 1000
    assert Throttle(70_000).portion(16 << 20) == 1 << 16
    assert Throttle(None).portion(16 << 20) == 16 << 20


def test_a_copy_is_counted(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_for(database, limits={"max_rate": 100_000})
    throttle = server.guard.throttle
    monkeypatch.setattr(throttle, "clock", lambda: clock.now)
    monkeypatch.setattr(throttle, "sleep", clock.sleep)
    monkeypatch.setattr(throttle, "_free_at", 0.0)
    with server.session(database.name) as session, session.copy(MANY) as stream:
        while stream.read(200_000):
            pass
        assert stream.bytes_read == 1_000_000
    assert clock.now == pytest.approx(1010.0)
    assert len(clock.slept) >= 5


def test_servers_of_one_source_share_their_places(database: Database) -> None:
    """As the sensors of a code location and its runs in the same process do."""
    one, other = (server_for(database, limits={"connections": 1}) for _ in range(2))
    with one.session(database.name), other.spare_session(database.name) as spare:
        assert spare is None
    with other.spare_session(database.name) as spare:
        assert spare is not None


def test_other_sources_and_other_limits_have_their_own(database: Database) -> None:
    config = server_for(database).config
    wider = config.model_copy(update={"limits": Limits(connections=7)})
    assert guard_of("shop", config) is Server("shop", config).guard
    assert guard_of("shop", config) is not guard_of("crm", config)
    assert guard_of("shop", config) is not guard_of("shop", wider)
