"""The streaming reader against the SQL reader, and against servers and callers that misbehave."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from pg_ingest.config.model import SourceConfig
from pg_ingest.decode.messages import Messages
from pg_ingest.demo.cluster import Cluster
from pg_ingest.errors import (
    MethodUnavailable,
    PermissionMissing,
    SlotBusy,
    SourceBusy,
    SourceUnreachable,
)
from pg_ingest.lsn import Lsn
from pg_ingest.postgres import copy_both, wal
from pg_ingest.postgres import stream as streaming
from pg_ingest.postgres.log_end import flushed_lsn
from pg_ingest.postgres.plugin import PgOutput
from pg_ingest.postgres.reader import SqlReader, WalReader, open_reader
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import drop_slot, read_slot
from pg_ingest.postgres.slot_creation import OLDEST_VERSION, create_slot
from pg_ingest.postgres.stream import stream
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.postgres.conftest import Role, server_for

_PUBLICATION = "it's, \"odd\\"
_MANY = 1_000_000

_COLUMNS = """id int primary key, f float8, r real, n numeric, d date, t timestamptz, i interval, y bytea,
 m money, j jsonb, a float8[], b text"""
_VALUES = """n, case n % 4 when 0 then 'NaN' when 1 then '-infinity' when 2 then 0.1 + 0.2 end, 1.1,
 n / 7.0, date '2024-02-29' + n, timestamptz '2024-03-31 01:59:59.5+02' + n * interval '1 hour',
 interval '1 year -3 days 04:05:06.7' * n, decode('00ff5c', 'hex'), n, '{"a": [1.10, null]}',
 array[n / 3.0, null], repeat('é', n % 5 * 3000)"""


@pytest.fixture
def slot(session: Session, database: Database) -> Iterator[str]:
    name = f"slot_{uuid.uuid4().hex[:12]}"
    database.execute(f"create table a({_COLUMNS})")
    database.execute("alter table a alter b set storage external")
    database.execute('create publication "it\'s, ""odd\\" for all tables')
    create_slot(session, name, "pgoutput")
    yield name
    with server_for(database).session(database.name) as own:
        for copied in ("", "_copy"):
            database.rows(
                "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
                " where slot_name = %s and active_pid is not null",
                name + copied,
            )
            drop_slot(own, name + copied)


def _copy(session: Session, slot: str) -> str:
    session.rows("select pg_copy_logical_replication_slot(%s, %s)", (slot, slot + "_copy"))
    return slot + "_copy"


def _flush(database: Database, session: Session) -> Lsn:
    database.execute("select pg_switch_wal()")
    return flushed_lsn(session)


def _insert(database: Database, first: int, last: int) -> None:
    database.execute(f"insert into a select {_VALUES} from generate_series({first}, {last}) n")


def _contents(pieces: Iterator[Messages]) -> list[bytes]:
    return [
        piece.buffer[start : start + length].tobytes()
        for piece in pieces
        for start, length in zip(piece.starts.tolist(), piece.lengths.tolist(), strict=True)
    ]


def _read(reader: WalReader, upto: Lsn, messages: int = _MANY) -> list[bytes]:
    return _contents(reader.pieces(upto=upto, messages=messages))


def _inserts(contents: list[bytes]) -> int:
    return sum(content[:1] == b"I" for content in contents)


def _work(database: Database) -> None:
    _insert(database, 1, 60)
    database.execute("update a set n = -n where id % 3 = 0")
    database.execute("update a set id = -id where id % 7 = 0")
    database.execute("alter table a add more text default 'x'; delete from a where id % 5 = 0")
    database.execute("create table b(x int); insert into b values (1); truncate a, b")
    database.execute("insert into a(id) values (100)")


@pytest.mark.parametrize("messages", [1, 5, 50, _MANY])
@pytest.mark.parametrize("piece_bytes", [1, 5_000, wal.PIECE_BYTES])
def test_both_readers_say_the_same(
    session: Session,
    slot: str,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    messages: int,
    piece_bytes: int,
) -> None:
    _work(database)
    upto = _flush(database, session)
    copy = _copy(session, slot)
    expected = _read(SqlReader(session, slot, PgOutput(_PUBLICATION)), upto)
    assert len(expected) > 100
    monkeypatch.setattr(streaming, "PIECE_BYTES", piece_bytes)
    found: list[bytes] = []
    with stream(session, copy, PgOutput(_PUBLICATION)) as reader:
        while True:
            read = _read(reader, upto, messages)
            assert not read or (read[0][:1], read[-1][:1]) == (b"B", b"C")
            found += read
            if len(read) < messages:
                break
    assert found == expected


def test_the_configuration_chooses(database: Database, slot: str) -> None:
    _insert(database, 1, 3)
    for word in ("sql", "stream"):
        with server_for(database, log={"reader": word}).session(database.name) as session:
            upto = _flush(database, session)
            with open_reader(session, slot, PgOutput(_PUBLICATION)) as reader:
                assert _inserts(_read(reader, upto)) == 3


def test_on_every_version(any_version: Cluster) -> None:
    own = Database("postgres", any_version.host, any_version.port, any_version.user)
    with server_for(own).session(own.name) as session:
        if session.server_version < OLDEST_VERSION:
            with pytest.raises(MethodUnavailable, match="needs PostgreSQL 11"):
                create_slot(session, "streamed", "pgoutput")
            return
        own.execute("create table streamed(id int, t text)")
        own.execute("create publication streamed for table streamed")
        for name in ("streamed", "peeked"):
            create_slot(session, name, "pgoutput")
        try:
            _stream_and_peek(own, session)
        finally:
            for name in ("streamed", "peeked"):
                drop_slot(session, name)
            own.execute("drop table streamed; drop publication streamed")


def _stream_and_peek(own: Database, session: Session) -> None:
    own.execute("insert into streamed select n, repeat('x', n) from generate_series(1, 2000) n")
    for number in range(20):
        own.execute(f"insert into streamed values ({number})")
    upto = _flush(own, session)
    expected = _read(SqlReader(session, "peeked", PgOutput("streamed")), upto)
    with stream(session, "streamed", PgOutput("streamed")) as reader:
        next(reader.pieces(upto=upto, messages=1))
    with stream(session, "streamed", PgOutput("streamed")) as reader:
        assert _read(reader, upto) == expected
        reader.confirm(upto)
    with stream(session, "streamed", PgOutput("streamed")) as reader:
        assert _read(reader, _flush(own, session)) == []


def test_an_idle_slot_answers_at_once(session: Session, slot: str, database: Database) -> None:
    upto = _flush(database, session)
    started = time.monotonic()
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _read(reader, upto) == []
        reader.confirm(upto)
        assert _read(reader, upto) == []
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _read(reader, upto) == []
    assert time.monotonic() - started < 5
    confirmed = read_slot(session, slot)
    assert confirmed is not None and confirmed.confirmed_lsn == upto


def test_what_commits_later_comes_in_a_later_round(
    session: Session, slot: str, database: Database
) -> None:
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        with database.connect() as late, late.transaction():
            late.execute("insert into a(id) values (1)")
            database.execute("insert into a(id) values (2)")
            upto = _flush(database, session)
        database.execute("insert into a(id) values (3)")
        later = _flush(database, session)
        assert _inserts(_read(reader, upto)) == 1
        assert _inserts(_read(reader, later)) == 2
        assert _read(reader, later) == []


def test_only_what_was_confirmed_moves_the_slot(
    session: Session, slot: str, database: Database
) -> None:
    _insert(database, 1, 5)
    middle = _flush(database, session)
    _insert(database, 6, 9)
    upto = _flush(database, session)
    before = read_slot(session, slot)
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _inserts(_read(reader, upto)) == 9
    after = read_slot(session, slot)
    assert before is not None and after is not None and before.confirmed_lsn == after.confirmed_lsn
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _inserts(_read(reader, upto)) == 9
        reader.confirm(middle)
        reader.confirm(Lsn(1))
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _inserts(_read(reader, upto)) == 4


def test_a_large_transaction_comes_in_bounded_pieces(
    session: Session, slot: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 20_000)
    database.execute(
        "insert into a(id, b) select n, repeat('x', 99) from generate_series(1, 999) n"
    )
    upto = _flush(database, session)
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        pieces = list(reader.pieces(upto=upto, messages=1))
    assert len(pieces) > 5 and max(len(piece.buffer) for piece in pieces) < 20_500
    assert _inserts(_contents(iter(pieces))) == 999


def test_a_busy_server_does_not_keep_a_round_from_ending(
    session: Session, slot: str, database: Database
) -> None:
    """What comes after `upto` in a trickle never makes a silence, nor a full piece."""
    upto = _flush(database, session)
    with database.connect() as writer, stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        started = time.monotonic()
        for number in range(3):
            writer.execute("insert into a(id) values (%s)", (number,))
            assert len(_read(reader, upto)) == 0
            upto = _flush(database, session)
            assert _inserts(_read(reader, upto)) == 1
        assert time.monotonic() - started < 5


def test_leaving_early_frees_the_slot(
    session: Session, slot: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 1_000)
    monkeypatch.setattr(copy_both, "_FAREWELL_SECONDS", 0.01)
    database.execute(
        "insert into a(id, b) select n, repeat('x', 200) from generate_series(1, 300000) n"
    )
    upto = _flush(database, session)
    started = time.monotonic()
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        next(reader.pieces(upto=upto, messages=1))
        with pytest.raises(RuntimeError, match="in the middle of a transaction"):
            next(reader.pieces(upto=upto, messages=1))
    found = read_slot(session, slot)
    assert found is not None and found.active_pid is None
    assert time.monotonic() - started < 5


def test_a_slot_in_use_is_busy(session: Session, slot: str) -> None:
    plugin = PgOutput(_PUBLICATION)
    with (
        stream(session, slot, plugin),
        pytest.raises(SlotBusy),
        stream(session, slot, plugin),
    ):
        raise AssertionError("two streams of one slot")


def test_no_progress_ends_the_wait(database: Database, slot: str) -> None:
    impatient = server_for(database, limits={"statement_timeout": 1})
    with impatient.session(database.name) as session:
        never = Lsn(_flush(database, session) + (1 << 40))
        with (
            stream(session, slot, PgOutput(_PUBLICATION)) as reader,
            pytest.raises(SourceBusy, match="no progress"),
        ):
            _read(reader, never)


def test_a_role_without_the_right_to_stream(role: Role, slot: str) -> None:
    with (
        role.server.session(role.database.name) as session,
        pytest.raises(PermissionMissing, match="may not stream") as caught,
        stream(session, slot, PgOutput(_PUBLICATION)),
    ):
        raise AssertionError("streamed")
    assert f'ALTER ROLE "{role.name}" REPLICATION' in caught.value.hint


@pytest.mark.parametrize("after_pieces", [0, 2])
def test_a_slow_caller_is_not_taken_for_dead(
    session: Session,
    slot: str,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    after_pieces: int,
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 100_000)
    database.execute(f"alter database {database.name} set wal_sender_timeout = '1s'")
    database.execute(
        "insert into a(id, b) select n, repeat('x', 300) from generate_series(1, 60000) n"
    )
    upto = _flush(database, session)
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        pieces = reader.pieces(upto=upto, messages=1)
        first = list(itertools.islice(pieces, after_pieces))
        database.execute("select pg_sleep(2.5)")
        assert _inserts(_contents(itertools.chain(first, pieces))) == 60000
        database.execute("select pg_sleep(2.5)")
        assert _read(reader, upto) == []


def _terminate(database: Database, slot: str) -> None:
    database.rows(
        "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
        " where slot_name = %s",
        slot,
    )


def test_a_killed_walsender(
    session: Session, slot: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 10_000)
    database.execute(
        "insert into a(id, b) select n, repeat('x', 300) from generate_series(1, 60000) n"
    )
    upto = _flush(database, session)
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        pieces = reader.pieces(upto=upto, messages=1)
        next(pieces)
        _terminate(database, slot)
        with pytest.raises(SourceUnreachable):
            list(pieces)
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _inserts(_read(reader, upto)) == 60000


def test_confirming_to_a_killed_walsender(session: Session, slot: str, database: Database) -> None:
    upto = _flush(database, session)
    with stream(session, slot, PgOutput(_PUBLICATION)) as reader:
        assert _read(reader, upto) == []
        _terminate(database, slot)
        with pytest.raises(SourceUnreachable):
            for _ in range(100):  # the first bytes into a closed socket may still be accepted
                reader.confirm(upto)
                _read(reader, Lsn(upto + 1))


def test_a_server_that_restarts_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PIECE_BYTES", 10_000)
    with Cluster(settings={"fsync": "on"}) as own:
        config = SourceConfig(host=own.host, port=own.port, user=own.user, databases=("postgres",))
        server = Server("shop", config, retry_delays=())
        with psycopg.connect(
            host=own.host, port=own.port, user=own.user, dbname="postgres", autocommit=True
        ) as admin:
            admin.execute("create table a(id int, b text); create publication p for table a")
            with server.session("postgres") as session:
                create_slot(session, "s", "pgoutput")
            admin.execute(
                "insert into a select n, repeat('x', 300) from generate_series(1, 60000) n"
            )
            admin.execute("select pg_switch_wal()")
        with server.session("postgres") as session:
            upto = flushed_lsn(session)
            with stream(session, "s", PgOutput("p")) as reader:
                pieces = reader.pieces(upto=upto, messages=1)
                next(pieces)
                own.stop("immediate")
                with pytest.raises(SourceUnreachable):
                    list(pieces)
        own.start()
        with server.session("postgres") as session, stream(session, "s", PgOutput("p")) as reader:
            assert _inserts(_read(reader, upto)) == 60000
