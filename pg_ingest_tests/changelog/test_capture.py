"""Capture against a witness slot, also when it is killed at any of its durable steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pg_ingest.changelog import capture as capturing
from pg_ingest.errors import ChangeLogDamaged, ConfigError, SlotBusy, SlotUnusable
from pg_ingest.postgres.reader import SqlReader
from pg_ingest.postgres.slot import locked_slot
from pg_ingest.postgres.stream import StreamReader
from pg_ingest_tests.changelog.conftest import Logged

_A = "create table a(id int primary key, t text)"


def _work(logged: Logged, rounds: int = 3) -> None:
    for number in range(rounds):
        logged.execute(
            f"insert into a select {number} * 100 + n, 'new' from generate_series(1, 20) n",
            f"update a set t = 'old' where id % 3 = 0 and id > {number} * 100",
            f"begin; update a set id = -id where id % 100 = {number + 1}; savepoint s;"
            " delete from a; rollback to s; delete from a where id % 7 = 0; commit",
        )


def test_everything_once_and_in_order(logged: Logged) -> None:
    logged.execute(_A, "create table b(x int); alter table b replica identity full")
    logged.begin()
    _work(logged)
    logged.execute(
        "insert into b values (1), (1), (null)", "truncate a, b", "insert into b values (2)"
    )
    done = logged.capture()
    logged.check("a", "b")
    assert done.rows == len(logged.changes("a")) + len(logged.changes("b"))
    assert logged.confirmed(logged.slot) == str(done.position)
    _work(logged, 1)
    logged.capture()
    logged.check("a", "b")
    assert logged.capture().rows == 0
    logged.check("a", "b")


def test_in_many_rounds_and_segments(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "FIRST_MESSAGES", 10)
    monkeypatch.setattr(capturing, "MOST_MESSAGES", 10)
    monkeypatch.setattr(capturing, "FLUSH_BYTES", 1)
    logged.execute(_A)
    logged.begin()
    _work(logged)
    done = logged.capture()
    assert len(done.segments) > 5
    logged.check("a")


def test_a_transaction_larger_than_memory_allows_is_spread(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "FLUSH_BYTES", 20_000)
    monkeypatch.setattr("pg_ingest.postgres.wal.PIECE_BYTES", 10_000)
    monkeypatch.setattr("pg_ingest.postgres.stream.PIECE_BYTES", 10_000)
    logged.execute(_A)
    logged.begin()
    logged.execute("insert into a select n, repeat('x', 50) from generate_series(1, 3000) n")
    segments = logged.capture().segments
    assert len(segments) > 8
    assert len({segment.first_lsn for segment in segments}) == 1
    logged.check("a")


def test_shapes_stay_in_order(logged: Logged) -> None:
    logged.execute(_A)
    logged.begin()
    logged.execute(
        "insert into a values (1, 'x')",
        "begin; alter table a add n int; insert into a values (2, 'y', 5); alter table a drop n;"
        " insert into a values (3, 'z'); commit",
        "alter table a rename t to tt; update a set tt = 'w'",
    )
    assert len(logged.capture().segments) == 4
    logged.check("a")
    assert logged.changes("a")["id"].to_list() == ["1", "2", "3", "1", "2", "3"]


def test_the_slot_of_an_idle_database_moves(logged: Logged) -> None:
    logged.execute(_A)
    logged.begin()
    before = logged.confirmed(logged.slot)
    logged.execute("create table quiet(x int)", "select txid_current()")
    done = logged.capture()
    assert done.rows == 0 and done.segments == ()
    assert logged.confirmed(logged.slot) == str(done.position) != before


def test_an_existing_slot_is_taken_as_it_is(logged: Logged) -> None:
    logged.execute(_A, "create publication p for all tables")
    logged.execute(f"select pg_create_logical_replication_slot('{logged.slot}', 'pgoutput')")
    logged.execute("insert into a values (1, 'before our time')")
    logged.capture()
    assert logged.changes("a")["t"].to_list() == ["before our time"]


def test_two_captures_do_not_race(logged: Logged) -> None:
    logged.execute(_A)
    logged.begin()
    with (
        logged.server.session(logged.database.name) as other,
        locked_slot(other, logged.slot),
        pytest.raises(SlotBusy),
    ):
        logged.capture()
    logged.capture()


# ---------------------------------------------------------------- killed at every durable step


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


class Steps:
    """Counts durable steps and dies just before, or just after, one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.die_at: tuple[int, bool] | None = None
        self._wrap(monkeypatch, os, "fsync")
        self._wrap(monkeypatch, Path, "replace")
        self._wrap(monkeypatch, SqlReader, "confirm")
        self._wrap(monkeypatch, StreamReader, "confirm")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def step(*args: Any) -> Any:
            self.count += 1
            if self.die_at == (self.count, False):
                raise Killed
            done = real(*args)
            if self.die_at == (self.count, True):
                raise Killed
            return done

        monkeypatch.setattr(owner, name, step)


def test_killed_at_every_durable_step(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "FIRST_MESSAGES", 60)
    monkeypatch.setattr(capturing, "MOST_MESSAGES", 60)
    logged.execute(_A)
    logged.begin()
    steps = Steps(monkeypatch)
    _work(logged, 2)
    logged.capture()
    in_all = steps.count
    assert in_all > 10
    for number in range(1, 9):
        for after in (False, True):
            logged.execute("truncate a")
            _work(logged, 2)
            steps.count, steps.die_at = 0, (number, after)
            with pytest.raises(Killed):
                logged.capture()
            steps.die_at = None
            logged.check_prefix("a")
            logged.capture()
            logged.check("a")
    leftovers = {path.name for path in logged.log.segment_folder.iterdir()}
    manifest = logged.log.manifest()
    assert manifest is not None and leftovers == {segment.file for segment in manifest.segments}


_KILLED = """
import os, signal, sys
from pathlib import Path
from pg_ingest.changelog import capture as capturing
from pg_ingest.changelog.join import join_slot
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.config.model import SourceConfig
from pg_ingest.postgres.plugin import PgOutput
from pg_ingest.postgres.reader import SqlReader
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.slot import locked_slot
from pg_ingest.postgres.stream import StreamReader

host, port, user, name, slot, reader, state, victim = sys.argv[1:]
confirming = SqlReader if reader == "sql" else StreamReader
owner = {"confirm": confirming, "write_segment": capturing, "commit": ChangeLog}[victim]
real = getattr(owner, victim)

def die(*args):
    real(*args)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, victim, die)
config = SourceConfig(host=host, port=int(port), user=user, databases=(name,), log={"reader": reader})
log = ChangeLog(Path(state), "shop", name)
with Server("shop", config).session(name) as session, locked_slot(session, slot):
    capturing.capture(session, log, PgOutput("p"), join_slot(session, log, slot))
"""


@pytest.mark.parametrize("victim", ["write_segment", "commit", "confirm"])
def test_sigkill(logged: Logged, victim: str) -> None:
    logged.execute(_A)
    logged.begin()
    _work(logged)
    database = logged.database
    where = [database.host, str(database.port), database.user, database.name]
    command = [
        sys.executable,
        "-c",
        _KILLED,
        *where,
        logged.slot,
        logged.server.config.log.reader,
        str(logged.log.state_dir),
        victim,
    ]
    logged.execute("select pg_switch_wal()")
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    logged.await_unlocked()
    logged.capture()
    logged.check("a")


# ---------------------------------------------------------------- what a person must see


def _edit(logged: Logged, **fields: Any) -> None:
    path = logged.log.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_slot_ahead_of_the_log(logged: Logged) -> None:
    logged.execute(_A)
    logged.begin()
    logged.execute("insert into a values (1, 'lost')", "select pg_switch_wal()")
    logged.execute(
        f"select pg_replication_slot_advance('{logged.slot}', pg_current_wal_flush_lsn())"
    )
    with pytest.raises(SlotUnusable, match="is ahead of the change log"):
        logged.capture()


def test_a_slot_that_is_gone(logged: Logged) -> None:
    logged.begin()
    logged.drop(logged.slot)
    with pytest.raises(SlotUnusable, match="is gone"):
        logged.capture()


def test_another_server_or_slot_or_an_older_server(logged: Logged) -> None:
    logged.begin()
    manifest = logged.log.manifest()
    assert manifest is not None
    _edit(logged, system_identifier=1)
    with pytest.raises(SlotUnusable, match="this is another server"):
        logged.capture()
    _edit(logged, system_identifier=manifest.system_identifier, slot="other")
    with pytest.raises(SlotUnusable, match="was captured from slot other"):
        logged.capture()
    _edit(logged, system_identifier=manifest.system_identifier, slot=logged.slot, position=1 << 60)
    with pytest.raises(SlotUnusable, match="ends before what was captured"):
        logged.capture()


def test_a_damaged_or_foreign_manifest(logged: Logged) -> None:
    logged.begin()
    _edit(logged, database="another")
    with pytest.raises(ChangeLogDamaged, match="is that of shop/another"):
        logged.capture()
    _edit(logged, database=logged.database.name, format=99)
    with pytest.raises(ChangeLogDamaged, match="has format 99"):
        logged.capture()
    (logged.log.folder / "manifest.json").write_text('{"source": "sh')
    with pytest.raises(ChangeLogDamaged, match="cannot be read"):
        logged.capture()


def test_a_full_disk_loses_nothing(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    logged.execute(_A)
    logged.begin()
    _work(logged)
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            logged.capture()
    logged.capture()
    logged.check("a")
