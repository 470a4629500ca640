"""Messages of wal2json as rows, by hand and at random, and everything that is no message of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_ingest.decode.wal2json.escapes import unescaped
from pg_ingest.errors import ProtocolError
from pg_ingest.table import TableId
from pg_ingest_tests.decode.wal2json.written import Reader, Written, begin, commit, rows_of

T = Written(
    TableId("public", 'a "t"\\é'),
    [(1, "id", 20), (2, 'n"\\', 1700), (4, "t", 25), (5, "ok", 16), (6, "raw", 17), (7, "big", 25)],
    ["id"],
)
KEYS = ["_pgi_op", "_pgi_whole", "_pgi_unchanged", "_pgi_unsaid"]


def brief(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Op, whole, unchanged, unsaid and then the values."""
    return [
        (*(row[key] for key in KEYS), *(v for k, v in row.items() if not k.startswith("_pgi_")))
        for row in rows
    ]


def in_transaction(*messages: bytes) -> list[bytes]:
    return [begin(7, 0x1_0000_0100), *messages, commit(7, 0x1_0000_0100)]


NAMES = [name for _, name, _ in T.columns]
ROW = {"id": "1", 'n"\\': "1.50", "t": 'x"\\\n\x01é😀', "ok": "t", "raw": "\\x00ff", "big": "z"}
WITHOUT_BIG = {name: value for name, value in ROW.items() if name != "big"}
NEW = list(ROW.values())


def test_one_of_each() -> None:
    rows = Reader([T]).rows(
        in_transaction(
            T.change("I", ROW, None),
            T.change("U", {**WITHOUT_BIG, "ok": "f", "raw": None}, {"id": "1"}),
            T.change("U", {**WITHOUT_BIG, "id": "2", 'n"\\': "NaN"}, {"id": "1"}),
            T.change("D", None, {"id": "2"}),
            T.truncate(),
        )
    )
    nothing = [None] * 5
    assert brief(rows) == [
        ("i", True, None, None, *NEW),
        ("u", True, ["big"], None, "1", "1.50", ROW["t"], "f", None, None),
        ("b", False, None, None, "1", *nothing),
        ("u", True, ["big"], ['n"\\'], "2", None, ROW["t"], "t", "\\x00ff", None),
        ("d", False, None, None, "2", *nothing),
        ("t", True, None, None, None, *nothing),
    ]
    assert {(row["_pgi_lsn"], row["_pgi_xid"]) for row in rows} == {(0x1_0000_0100, 7)}
    sequence = [row["_pgi_sequence"] for row in rows]
    assert sequence == sorted(set(sequence))
    assert sequence[3] == sequence[2] + 1  # an old row stands directly before its new one


def test_full_identity_fills_what_the_new_row_leaves_out() -> None:
    full = Written(T.name, T.columns, list(ROW))
    rows = Reader([full]).rows(in_transaction(full.change("U", WITHOUT_BIG, ROW)))
    assert brief(rows) == [("b", True, None, None, *NEW), ("u", True, None, None, *NEW)]


def test_a_plugin_that_says_all_has_no_unsaid() -> None:
    message = T.change("I", {**ROW, 'n"\\': None}, None)
    message = message.replace(b'"value":1,', b'"value":"1",')
    rows = Reader([T], says_all=True).rows(in_transaction(message))
    assert "_pgi_unsaid" not in rows[0]
    assert (rows[0]["id"], rows[0]['n"\\']) == ("1", None)


def test_new_renamed_and_dropped_columns() -> None:
    renamed = Written(T.name, [(1, "nr", 20), *T.columns[1:]], ["nr"])
    wider = Written(T.name, [*renamed.columns, (9, "new", 25)], ["nr"])
    narrow = Written(T.name, [each for each in wider.columns if each[1] != "t"], ["nr"])
    numbered = {"nr" if name == "id" else name: value for name, value in ROW.items()}
    some = {name: value for name, value in numbered.items() if name not in ("big", "t")}
    reader = Reader([T])
    decoded = reader.read(
        in_transaction(
            T.change("I", ROW, None),
            renamed.change("U", {k: v for k, v in numbered.items() if k != "big"}, {"nr": "1"}),
            wider.change("U", {**numbered, "new": "w"}, {"nr": "1"}),
            narrow.change("U", {**some, "new": "w"}, {"nr": "1"}),
            narrow.change("I", {**some, "big": "b", "new": "w"}, None),
            narrow.change("D", None, {"nr": "1"}),
        )
    )
    shapes = [[column.name for column in one.relation.columns] for one in decoded.changes]
    with_new = ["nr", 'n"\\', "t", "ok", "raw", "big", "new"]
    assert [sorted(shape) for shape in shapes] == [
        sorted(["id", *with_new[1:-1]]),
        sorted(with_new[:-1]),
        sorted(with_new),
        sorted(name for name in with_new if name != "t"),
    ]
    rows = rows_of(decoded)
    assert [row["_pgi_unchanged"] and set(row["_pgi_unchanged"]) for row in rows] == [
        None,
        {"big"},
        None,
        {"t", "big"},  # nothing says yet that t is gone
        None,
        None,
    ]
    keys = [[c.name for c in one.relation.columns if c.identity] for one in decoded.changes]
    assert keys == [["id"], ["nr"], ["nr"], ["nr"]]


def test_a_name_that_moves_on_while_its_column_is_left_out_is_unclear() -> None:
    swapped = Written(T.name, [*T.columns[:2], (4, "big", 25), *T.columns[3:5]], ["id"])
    values = {**WITHOUT_BIG, "big": "was t"}
    del values["t"]
    decoded = Reader([T]).read(in_transaction(swapped.change("U", values, {"id": "1"})))
    assert (decoded.unclear, decoded.changes) == (frozenset({T.root}), ())


ROOT = Written(TableId("public", "p"), [(1, "a", 23), (2, "b", 25)], ["a"], 1, 1)
LEAF = Written(
    TableId("s", "p1"), [(1, "b", 25), (3, "a", 23)], ["a"], 2, 1, ROOT.name, order=("a", "b")
)
OTHER = Written(TableId("s", "p2"), [(1, "a", 23), (2, "b", 25)], ["a"], 3, 1, ROOT.name)


def test_partitions_are_their_root() -> None:
    decoded = Reader([ROOT, LEAF, OTHER]).read(
        in_transaction(
            LEAF.change("I", {"a": "1", "b": "x"}, None),
            OTHER.change("I", {"a": "2", "b": "y"}, None),
            LEAF.change("D", None, {"a": "1"}),
            *(each.truncate("0/AB") for each in (ROOT, LEAF, OTHER)),
            Written(TableId("s", "elsewhere"), [(1, "a", 23)], ["a"]).change("I", {"a": "1"}, None),
        )
    )
    (changes,) = decoded.changes
    assert (changes.relation.oid, changes.relation.id) == (1, ROOT.name)
    assert [(r["_pgi_op"], r["a"], r["b"]) for r in rows_of(decoded)] == [
        ("i", "1", "x"),
        ("i", "2", "y"),
        ("d", "1", None),
        ("t", None, None),
    ]
    assert not decoded.unclear


def test_a_partition_that_is_truncated_alone_is_unclear() -> None:
    reader = Reader([ROOT, LEAF, OTHER])
    messages = in_transaction(ROOT.truncate("0/AA"), LEAF.truncate("0/AB"))
    assert reader.read(messages).unclear == {ROOT.root}


def test_generated_columns_are_left_out() -> None:
    table = Written(T.name, [(1, "id", 23), (2, "twice", 23)], ["id"], generated=frozenset({2}))
    rows = Reader([table]).rows(in_transaction(table.change("I", {"id": "1", "twice": "2"}, None)))
    assert [k for k in rows[0] if not k.startswith("_pgi_")] == ["id"]


def test_logical_messages_lie_anywhere() -> None:
    told = b'{"action":"M","xid":null,"lsn":"0/A","transactional":false,"prefix":"pg_ingest","content":"h"}'
    decoded = Reader([T]).read([told, *in_transaction(told.replace(b"null", b"7")), told])
    assert [m.prefix for m in decoded.messages] == ["pg_ingest"] * 3
    assert (decoded.commits, str(decoded.end_lsn)) == (1, "1/130")


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=12
) | st.sampled_from(
    ['"', "\\", '\\"', "\\\\", "\\u0041", '","position":1}', "null", "]}", "\U0001f600"]
)
VALUES = st.fixed_dictionaries(
    {
        "id": st.integers(-5, 5).map(str),
        'n"\\': st.none() | st.sampled_from(["0", "-1.50", "1e+40", "123456789012345678901.5"]),
        "t": st.none() | TEXTS,
        "ok": st.sampled_from([None, "t", "f"]),
        "raw": st.none() | st.binary(max_size=3).map(lambda b: "\\x" + b.hex()),
        "big": st.none() | TEXTS,
    }
)
CHANGES = st.lists(
    st.tuples(st.sampled_from("IUD"), VALUES, st.booleans(), st.booleans()), max_size=6
)


def _expected(action: str, values: dict[str, Any], left_out: bool, moved: bool) -> Any:
    """The message and the rows it means: op, and values."""
    old = {"id": "77" if moved else values["id"]}
    before = [*old.values(), *[None] * 5]
    if action == "I":
        return T.change("I", values, None), [("i", None, [values[name] for name in NAMES])]
    if action == "D":
        return T.change("D", None, old), [("d", None, before)]
    new = {name: value for name, value in values.items() if not (left_out and name == "big")}
    rows = [("b", None, before)] if moved else []
    shown = [new.get(name) for name in NAMES]
    return T.change("U", new, old), [*rows, ("u", ["big"] if left_out else None, shown)]


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, max_size=4), st.integers(1, 9))
def test_any_changes_cut_anywhere(transactions: list[list[Any]], size: int) -> None:
    messages: list[bytes] = []
    expected = []
    for number, changes in enumerate(transactions):
        pairs = [_expected(*change) for change in changes]
        lsn = (number + 1) << 30
        messages += [begin(number, lsn), *(pair[0] for pair in pairs), commit(number, lsn)]
        expected += [(lsn, number, *row) for pair in pairs for row in pair[1]]
    for message in messages:
        json.loads(message)
    reader = Reader([T])
    found = [
        row
        for start in range(0, len(messages), size)
        for row in reader.rows(messages[start : start + size])
    ]
    assert [
        (
            row["_pgi_lsn"],
            row["_pgi_xid"],
            row["_pgi_op"],
            row["_pgi_unchanged"],
            [row[name] for name in NAMES],
        )
        for row in found
    ] == expected
    order = [(row["_pgi_lsn"], row["_pgi_sequence"]) for row in found]
    assert order == sorted(set(order))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | TEXTS, max_size=6), st.booleans())
def test_escapes_are_those_of_json(texts: list[str | None], ascii_only: bool) -> None:
    raw = [None if t is None else json.dumps(t, ensure_ascii=ascii_only)[1:-1] for t in texts]
    assert unescaped(pa.array(raw, pa.string()), "t").to_pylist() == texts


@pytest.mark.parametrize(
    "text", ["\\x", "\\u12", "\\u12g4", "\\ud800", "\\udc00\\ud800", "\\u0000"]
)
def test_other_escapes_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="escape"):
        unescaped(pa.array([text]), "t")


GOOD = in_transaction(T.change("I", ROW, None), T.change("U", WITHOUT_BIG, {"id": "1"}))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([b""], "not JSON of wal2json"),
        ([b"B\0\0"], "not JSON of wal2json"),
        ([b'{"action":"X","xid":1}'], "unknown message"),
        ([b'{"action":"B","xid":x1,"lsn":"0/1","nextlsn":"0/2"}'], "transaction id"),
        ([b'{"action":"B","xid":1,"lsn":"01","nextlsn":"0/2"}'], "WAL position"),
        ([b'{"action":"B","xid":1,"lsn":"FFFFFFFF/0","nextlsn":"0/2"}'], "WAL position"),
        ([GOOD[0], GOOD[0]], "within a transaction"),
        ([GOOD[1]], "outside a transaction"),
        ([GOOD[0], commit(7, 99)], "another WAL position"),
        ([GOOD[0], commit(8, 0x1_0000_0100)], "another WAL position or transaction"),
        ([GOOD[0], GOOD[1].replace(b'"typeoid":20,', b"")], "does not tell its type"),
        ([GOOD[0], GOOD[1].replace(b',"position":4', b"")], "no position"),
        ([GOOD[0], GOOD[1].replace(b'"value":true', b'"value":maybe')], "neither true nor"),
        ([GOOD[0], GOOD[1].replace(b'"value":true', b'"value":12')], "neither true nor false"),
        ([GOOD[0], GOOD[1].replace(b'"value":1.50', b'"value":true')], "neither a number"),
        ([GOOD[0], GOOD[1].replace("é".encode(), b"\xff")], "UTF-8"),
        ([GOOD[0], GOOD[2][:-20] + b"}"], "not JSON"),
    ],
)
def test_what_is_no_message_of_wal2json(messages: list[bytes], words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as raised:
        Reader([T]).read(messages)
    if "UTF-8" not in words and "neither" not in words:
        assert "message" in raised.value.detail and "byte" in raised.value.detail


def test_a_message_cut_short_is_never_an_index_error() -> None:
    for number, message in enumerate(GOOD):
        for length in range(0, len(message), 3):
            with pytest.raises(ProtocolError):
                Reader([T]).read([*GOOD[:number], message[:length]])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3), st.data())
def test_damage_gives_a_protocol_error_or_other_values(number: int, data: st.DataObject) -> None:
    message = bytearray(GOOD[number])
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        Reader([T]).read([*GOOD[:number], bytes(message), *GOOD[number + 1 :]])
