"""The columnar decoder against a plain one, on what a real server says."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pg_ingest.decode.messages import Decoded, Messages, Relation, State
from pg_ingest.decode.pgoutput import decode
from pg_ingest.errors import ProtocolError
from pg_ingest.table import ReplicaIdentity
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.decode.pgoutput_reference import Reference, read_all

_SLOT = "decode_test"


def _pieces(messages: list[bytes], cuts: Iterable[int]) -> Iterator[Decoded]:
    state = State()
    edges = [0, *sorted({cut % (len(messages) + 1) for cut in cuts}), len(messages)]
    for start, end in itertools.pairwise(edges):
        decoded = decode(Messages.of(messages[start:end]), state)
        state = decoded.state
        yield decoded
    assert state.transaction is None


def _shape(relation: Relation) -> tuple[Any, ...]:
    letters = {v: k for k, v in zip("dnfi", _identities(), strict=True)}
    columns = tuple((c.name, c.type_oid, c.modifier, c.identity) for c in relation.columns)
    identity = letters[relation.identity]
    return (relation.oid, relation.id.schema, relation.id.name, identity, columns)


def _identities() -> tuple[ReplicaIdentity, ...]:
    return (
        ReplicaIdentity.DEFAULT,
        ReplicaIdentity.NOTHING,
        ReplicaIdentity.FULL,
        ReplicaIdentity.INDEX,
    )


def _same(messages: list[bytes], cuts: Iterable[int] = ()) -> Reference:
    """Both decoders agree, however the messages are cut into pieces."""
    expected = read_all(messages)
    rows: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    others: list[tuple[Any, ...]] = []
    commits, end = 0, None
    for piece in _pieces(messages, cuts):
        commits += piece.commits
        end = end if piece.end_lsn is None else int(piece.end_lsn)
        for changes in piece.changes:
            shape = _shape(changes.relation)
            rows.extend((shape, row) for row in changes.rows.to_pylist())
        others += [
            ("T", t.commit_lsn, tuple(map(str, t.relations)), t.cascade, t.restart_identity)
            for t in piece.truncates
        ]
        others += [("M", m.transactional, m.lsn, m.prefix, m.content) for m in piece.messages]
        others += [("O", o.commit_lsn, o.name) for o in piece.origins]
        others += [("Y", t.oid, t.schema, t.name) for t in piece.types]

    def order(row: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[int, int, str]:
        return row[1]["_pgi_lsn"], row[1]["_pgi_sequence"], row[0][2]

    assert sorted(rows, key=order) == sorted(expected.rows, key=order)
    assert sorted(others, key=repr) == sorted(expected.others, key=repr)
    assert (commits, end) == (expected.commits, expected.end_lsn)
    return expected


def _record(database: Database, setup: str, statements: Iterable[str]) -> list[bytes]:
    """What pgoutput says about some transactions."""
    with database.connect() as connection:
        connection.execute(setup)
        connection.execute("create publication p for all tables")
        connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [_SLOT])
        try:
            for statement in statements:
                connection.execute(statement)
            return _peek(connection)
        finally:
            connection.execute("select pg_drop_replication_slot(%s)", [_SLOT])


def _peek(connection: psycopg.Connection) -> list[bytes]:
    connection.execute("select pg_switch_wal()")  # flushes what asynchronous commits left behind
    cursor = connection.execute(
        "select data from pg_logical_slot_peek_binary_changes(%s, null, null, 'proto_version',"
        " '1', 'publication_names', 'p', 'messages', 'true')",
        [_SLOT],
        binary=True,
    )
    return [bytes(data) for (data,) in cursor]


def _ops(reference: Reference) -> str:
    return "".join(row["_pgi_op"] for _, row in reference.rows)


def test_inserts_updates_deletes_of_several_tables(database: Database) -> None:
    messages = _record(
        database,
        "create table a(id int primary key, t text, n numeric);"
        'create table "Ünï.b"(x text, id int primary key)',
        [
            "insert into a values (1, 'one', 1.50), (2, null, 'NaN'), (3, '', null)",
            """insert into "Ünï.b" values ('ä€😀', 1)""",
            "begin; update a set t = 'x' where id = 1; delete from \"Ünï.b\"; delete from a"
            ' where id = 2; insert into "Ünï.b" values (null, 9); commit',
        ],
    )
    assert _ops(_same(messages)) == "iiiiuddi"


@pytest.mark.parametrize("cut", range(12))
def test_a_piece_may_end_anywhere(database: Database, cut: int) -> None:
    messages = _record(
        database,
        "create table a(id int primary key, t text)",
        ["begin; insert into a values (1, 'a'); update a set id = 2; delete from a; commit"] * 2,
    )
    assert len(messages) == 11
    assert _ops(_same(messages, [cut])) == "ibudibud"


def test_key_change_sends_the_old_key(database: Database) -> None:
    messages = _record(
        database,
        "create table a(id int primary key, t text not null)",
        ["insert into a values (1, 'x')", "update a set id = 5", "update a set t = 'y'"],
    )
    reference = _same(messages)
    assert _ops(reference) == "ibuu"
    _, before = reference.rows[1]
    assert (before["id"], before["t"], before["_pgi_whole"]) == ("1", None, False)


def test_replica_identity_full_and_index_and_nothing(database: Database) -> None:
    messages = _record(
        database,
        "create table f(a int, b text); alter table f replica identity full;"
        "create table x(a int, b text not null); create unique index xb on x(b);"
        "alter table x replica identity using index xb;"
        "create table n(a int); alter table n replica identity nothing",
        [
            "insert into f values (1, 'x'), (1, 'x'), (null, null)",
            "update f set a = a + 1; delete from f where a = 2",
            "insert into x values (1, 'k'); update x set a = 2; update x set b = 'l'; delete from x",
            "insert into n values (7)",
        ],
    )
    assert _ops(_same(messages)) == "iii" + "bububu" + "dd" + "iubud" + "i"


def test_unchanged_toast_is_named(database: Database) -> None:
    messages = _record(
        database,
        "create table a(id int primary key, n int, big text, other text);"
        "alter table a alter big set storage external, alter other set storage external",
        [
            "insert into a values (1, 1, repeat('x', 9000), repeat('y', 9000)), (2, 2, 'b', 'o')",
            "update a set n = n + 1",
            "update a set other = 'short' where id = 1",
        ],
    )
    reference = _same(messages)
    unchanged = [row["_pgi_unchanged"] for _, row in reference.rows]
    assert unchanged == [None, None, ["big", "other"], None, ["big"]]


def test_truncate_of_several_tables(database: Database) -> None:
    messages = _record(
        database,
        "create table a(id int primary key, t text); create table b(id int);"
        "create table c(id int references a)",
        [
            "begin; insert into a values (1, 'x'); truncate a, b cascade; insert into a values"
            " (2, 'y'); commit",
            "truncate b restart identity",
        ],
    )
    reference = _same(messages)
    assert sorted(_ops(reference)) == sorted("itttit")
    truncates = [other for other in reference.others if other[0] == "T"]
    assert [t[3:] for t in truncates] == [(True, False), (False, True)]


def test_columns_change_within_a_transaction(database: Database) -> None:
    messages = _record(
        database,
        "create table a(id int primary key, t text)",
        [
            "begin; insert into a values (1, 'x'); alter table a add n int default 4; update a set"
            " n = 5; alter table a drop t; insert into a values (2, 3); alter table a rename n to"
            " m; insert into a values (3, 4); alter table a alter m type text; delete from a; commit",
            "alter table a rename to aa; insert into aa values (9, 'z')",
        ],
    )
    reference = _same(messages)
    shapes = [[c[0] for c in shape[4]] for shape in dict.fromkeys(s for s, _ in reference.rows)]
    assert ["id", "t"] in shapes and ["id", "t", "n"] in shapes and ["id", "m"] in shapes


def test_messages_origins_types_and_quiet_transactions(database: Database) -> None:
    messages = _record(
        database,
        "create type mood as enum ('sad', 'ok'); create table a(id int primary key, m mood);"
        "create table empty()",
        [
            "insert into a values (1, 'ok')",
            "select pg_logical_emit_message(false, 'beat', 'now')",
            "begin; insert into a values (2, 'sad');"
            " select pg_logical_emit_message(true, 'in', 'side'); rollback",
            "begin; savepoint s; insert into a values (3, 'sad'); rollback to s;"
            " select pg_logical_emit_message(true, 'in', '\\x00ff'::bytea); commit",
            "insert into empty default values",
            "select pg_replication_origin_create('far' || pg_backend_pid())",
            "select pg_replication_origin_session_setup('far' || pg_backend_pid())",
            "begin; select pg_replication_origin_xact_setup('0/ABC', now());"
            " insert into a values (4, null); commit",
            "select pg_replication_origin_session_reset()",
            "select pg_replication_origin_drop('far' || pg_backend_pid())",
        ],
    )
    reference = _same(messages)
    kinds = sorted(other[0] for other in reference.others)
    assert kinds == ["M", "M", "O", "Y"]
    assert _ops(reference) == "iii"


def test_partitions_speak_for_themselves_or_through_their_root(database: Database) -> None:
    setup = (
        "create table r(id int primary key, v text) partition by range (id);"
        "create table r1 partition of r for values from (0) to (10);"
        "create table r2(v text, id int primary key);"
        "alter table r attach partition r2 for values from (10) to (20)"
    )
    statements = ["insert into r values (1, 'a'), (11, 'b')", "update r set id = 12 where id = 1"]
    assert _ops(_same(_record(database, setup, statements))) == "iidi"
    database.execute(
        "drop publication p; create publication p for table r"
        " with (publish_via_partition_root = true)"
    )
    with database.connect() as connection:
        connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [_SLOT])
        connection.execute("insert into r values (2, 'c'), (13, 'd')")
        reference = _same(_peek(connection))
        connection.execute("select pg_drop_replication_slot(%s)", [_SLOT])
    assert {shape[2] for shape, _ in reference.rows} == {"r"}


# ---------------------------------------------------------------- messages nobody has sent


def _begin(lsn: int, xid: int) -> bytes:
    return b"B" + struct.pack(">QqI", lsn, 0, xid)


def _commit(lsn: int) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, lsn, lsn + 8, 0)


def _relation(oid: int, columns: int) -> bytes:
    described = b"".join(b"\1c%d\0" % n + struct.pack(">Ii", 25, -1) for n in range(columns))
    return (
        b"R" + struct.pack(">I", oid) + b"s\0t%d\0d" % oid + struct.pack(">H", columns) + described
    )


def _tuple(values: list[str | bool | None]) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if isinstance(value, str):
            data = value.encode()
            parts.append(b"t" + struct.pack(">I", len(data)) + data)
        else:
            parts.append(b"n" if value is None else b"u")
    return b"".join(parts)


_WIDTHS = {1: 1, 2: 3, 3: 0, 4: 2}
_text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
_value = st.one_of(_text, st.none(), st.just(True))


@st.composite
def _change(draw: st.DrawFn) -> bytes:
    oid = draw(st.sampled_from(sorted(_WIDTHS)))
    head = struct.pack(">I", oid)
    values = st.lists(_value, min_size=_WIDTHS[oid], max_size=_WIDTHS[oid]).map(_tuple)
    match draw(st.sampled_from("IUuDTR")):
        case "I":
            return b"I" + head + b"N" + draw(values)
        case "U":
            return b"U" + head + b"N" + draw(values)
        case "u":
            return (
                b"U"
                + head
                + draw(st.sampled_from([b"K", b"O"]))
                + draw(values)
                + b"N"
                + draw(values)
            )
        case "D":
            return b"D" + head + draw(st.sampled_from([b"K", b"O"])) + draw(values)
        case "T":
            oids = draw(st.lists(st.sampled_from(sorted(_WIDTHS)), min_size=1, unique=True))
            return b"T" + struct.pack(f">IB{len(oids)}I", len(oids), draw(st.integers(0, 3)), *oids)
        case _:
            return _relation(oid, _WIDTHS[oid])


@st.composite
def _log(draw: st.DrawFn) -> list[bytes]:
    messages: list[bytes] = []
    for number, changes in enumerate(draw(st.lists(st.lists(_change(), max_size=6), max_size=5))):
        messages.append(_begin(1000 + number, number))
        if not number:
            messages += [_relation(oid, width) for oid, width in _WIDTHS.items()]
        messages += [*changes, _commit(1000 + number)]
    return messages


@given(_log(), st.lists(st.integers(0, 40), max_size=4))
@settings(deadline=None, max_examples=120)
def test_any_log_cut_anywhere(messages: list[bytes], cuts: list[int]) -> None:
    _same(messages, cuts)


@given(_log(), st.data())
@settings(deadline=None, max_examples=250)
def test_damage_is_a_protocol_error_or_another_log(
    messages: list[bytes], data: st.DataObject
) -> None:
    if not messages:
        messages = [b""]
    victim = data.draw(st.integers(0, len(messages) - 1))
    message = messages[victim]
    place = data.draw(st.integers(0, len(message)))
    byte = bytes([data.draw(st.integers(0, 255))])
    damaged = data.draw(
        st.sampled_from(
            [message[:place], message[:place] + byte + message[place + 1 :], message + byte]
        )
    )
    try:
        decode(Messages.of([*messages[:victim], damaged, *messages[victim + 1 :]]), State())
    except ProtocolError as error:
        assert error.hint


@given(st.lists(st.binary(max_size=40), max_size=6))
@settings(deadline=None)
@example([b"T\xff\xff\xff\xff\0"])
def test_noise_is_a_protocol_error(messages: list[bytes]) -> None:
    framed = [_begin(1, 1), _relation(1, 1), *messages, _commit(1)]
    try:
        decode(Messages.of(framed), State())
    except ProtocolError:
        return
    assert all(message[:1] in b"BCIUDTRYOM" for message in messages)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([b"Z"], "unknown message 'Z'"),
        ([b""], "a message is empty"),
        ([_begin(1, 1), _begin(2, 2)], "message 'B' within a transaction"),
        ([_commit(1)], "message 'C' outside a transaction"),
        ([_begin(1, 1), _commit(2)], "a Commit names another WAL position than its Begin"),
        ([_relation(1, 1)], "message 'R' outside a transaction"),
        ([_begin(1, 1)[:-1]], "the message must have 21 bytes, got 20"),
        ([_begin(1 << 63, 1)], "a WAL position is impossible"),
        ([_begin(1, 1), b"I\0\0\0\1N\0\0"], "a change of relation 1, which was not announced"),
        (
            [_begin(1, 1), _relation(1, 2), b"I\0\0\0\1N\0\1n"],
            "a tuple has another number of columns than its relation (2)",
        ),
        (
            [_begin(1, 1), _relation(1, 1), b"I\0\0\0\1N\0\1b\0\0\0\1x"],
            "a value is binary although text was asked for",
        ),
        (
            [_begin(1, 1), _relation(1, 1), b"I\0\0\0\1N\0\1t\0\0\0\2x"],
            "a value is longer than its message",
        ),
        ([_begin(1, 1), _relation(1, 1), b"I\0\0\0\1N\0\1nn"], "bytes are left after the tuple"),
        ([_begin(1, 1), _relation(1, 1), b"I\0\0\0\1K\0\1n"], "unexpected kind of a tuple"),
        ([_begin(1, 1), _relation(1, 1), b"U\0\0\0\1K\0\1nX\0\1n"], "an update has no new row"),
    ],
)
def test_what_the_protocol_forbids(messages: list[bytes], says: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(Messages.of(messages), State())
    assert caught.value.message == says


def test_an_error_says_where(database: Database) -> None:
    messages = [_begin(1, 1), _relation(1, 2), b"I\0\0\0\1N\0\2nq"]
    with pytest.raises(ProtocolError, match="message 2 of this piece, byte 9 of it"):
        decode(Messages.of(messages), State())


def test_texts_are_shared_between_no_pieces() -> None:
    """What was decoded stays as it was when the buffer is used again."""
    buffer = Messages.of(
        [_begin(1, 1), _relation(1, 1), b"I\0\0\0\1N" + _tuple(["abc"]), _commit(1)]
    )
    own = Messages(buffer.buffer.copy(), buffer.starts, buffer.lengths)
    (changes,) = decode(own, State()).changes
    own.buffer[:] = np.uint8(0)
    assert changes.rows.column("c0").to_pylist() == ["abc"]
