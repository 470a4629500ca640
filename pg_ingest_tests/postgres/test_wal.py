"""Reading a slot in pieces."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from psycopg import pq

from pg_ingest.decode.messages import State
from pg_ingest.decode.pgoutput import decode
from pg_ingest.errors import SlotBusy
from pg_ingest.lsn import Lsn
from pg_ingest.postgres import wal
from pg_ingest.postgres.log_end import flushed_lsn
from pg_ingest.postgres.plugin import PgOutput
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import advance_slot, drop_slot, read_slot, usable_slot
from pg_ingest.postgres.slot_creation import create_slot
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import server_for

_PUBLICATION = 'odd, "name'


@pytest.fixture
def slot(session: Session, database: Database) -> Iterator[str]:
    name = f"slot_{uuid.uuid4().hex[:12]}"
    database.execute("create table a(id int primary key, t text)")
    database.execute('create publication "odd, ""name" for table a')
    create_slot(session, name, "pgoutput")
    yield name
    database.rows(
        "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = %s",
        name,
    )
    with server_for(database).session(database.name) as own:
        drop_slot(own, name)


def _flush(database: Database, session: Session) -> Lsn:
    database.execute("select pg_switch_wal()")
    return flushed_lsn(session)


def _ids(session: Session, slot: str, upto: Lsn, messages: int = 1_000_000) -> list[list[str]]:
    state, found = State(), []
    for piece in wal.peek(session, slot, PgOutput(_PUBLICATION), upto=upto, messages=messages):
        decoded = decode(piece, state)
        state = decoded.state
        for changes in decoded.changes:
            found.append(changes.rows.column("id").to_pylist())
    assert state.transaction is None
    return found


def test_nothing_to_read(session: Session, slot: str, database: Database) -> None:
    assert _ids(session, slot, _flush(database, session)) == []


def test_a_peek_does_not_move_the_slot(session: Session, slot: str, database: Database) -> None:
    database.execute("insert into a values (1), (2)")
    upto = _flush(database, session)
    before = read_slot(session, slot)
    assert _ids(session, slot, upto) == [["1", "2"]] == _ids(session, slot, upto)
    after = read_slot(session, slot)
    assert before is not None and after is not None and before.confirmed_lsn == after.confirmed_lsn
    advance_slot(session, slot, upto)
    assert _ids(session, slot, upto) == []


def test_whole_transactions_until_there_are_enough(
    session: Session, slot: str, database: Database
) -> None:
    for number in range(0, 40, 10):
        database.execute(f"insert into a select generate_series({number}, {number + 9})")
    upto = _flush(database, session)
    assert [len(ids) for ids in _ids(session, slot, upto, messages=1)] == [10]
    assert sum(len(ids) for ids in _ids(session, slot, upto, messages=14)) == 20
    assert sum(len(ids) for ids in _ids(session, slot, upto)) == 40


def test_what_commits_later_is_left_out(session: Session, slot: str, database: Database) -> None:
    with database.connect() as late, late.transaction():
        late.execute("insert into a values (1)")
        database.execute("insert into a values (2)")
        upto = _flush(database, session)
    assert _ids(session, slot, upto) == [["2"]]
    assert _ids(session, slot, _flush(database, session)) == [["2", "1"]]


def test_a_large_transaction_comes_in_bounded_pieces(
    session: Session, slot: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "PIECE_BYTES", 20_000)
    database.execute("insert into a select n, repeat('x', 100) from generate_series(1, 2000) n")
    upto = _flush(database, session)
    sizes = [
        int(piece.lengths.sum())
        for piece in wal.peek(session, slot, PgOutput(_PUBLICATION), upto=upto, messages=1)
    ]
    assert len(sizes) > 10 and max(sizes) < 21_000
    assert sum(map(len, _ids(session, slot, upto))) == 2000


def test_leaving_early_frees_slot_and_session(
    session: Session, slot: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "PIECE_BYTES", 1_000)
    database.execute("insert into a select n, repeat('x', 100) from generate_series(1, 50000) n")
    upto = _flush(database, session)
    pieces = wal.peek(session, slot, PgOutput(_PUBLICATION), upto=upto, messages=1)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert session.rows("select 1") == [(1,)]
    with server_for(database).session(database.name) as other:
        advance_slot(other, slot, upto)


def test_a_slot_in_use_is_busy(session: Session, slot: str, database: Database) -> None:
    upto = _flush(database, session)
    with database.connect(replication="database") as other:
        options = "(proto_version '1', publication_names 'p')"
        start = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 {options}"
        assert other.pgconn.exec_(start.encode()).status == pq.ExecStatus.COPY_BOTH
        with pytest.raises(SlotBusy):
            list(wal.peek(session, slot, PgOutput(_PUBLICATION), upto=upto, messages=1))
        with pytest.raises(SlotBusy, match="is being read by somebody else"):
            usable_slot(session, slot, "pgoutput")
        other.pgconn.finish()
