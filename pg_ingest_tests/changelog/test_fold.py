"""Folding against a table kept row by row, fed by random changes as PostgreSQL would log them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.changelog.fold import BASE, COUNT, UNCHANGED, Counted, Folded, count, fold

KEYS = st.integers(0, 4).map(str)
TEXTS = st.sampled_from(["x", "y", "", "NULL", None])
KEPT = object()

SCHEMA = {
    "_pgi_lsn": pl.Int64,
    "_pgi_sequence": pl.Int64,
    "_pgi_xid": pl.Int64,
    "_pgi_op": pl.String,
    "_pgi_whole": pl.Boolean,
    "_pgi_unchanged": pl.List(pl.String),
    "id": pl.String,
    "a": pl.String,
    "b": pl.String,
}

Row = tuple[str | None, str | None, str | None]


class Log:
    """Writes down changes the way pgoutput sends them."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.rows: list[dict[str, Any]] = []

    def write(self, op: str, row: Row, *, whole: bool = True, kept: tuple[str, ...] = ()) -> None:
        number = len(self.rows)
        after_old = self.rows and self.rows[-1]["_pgi_op"] == "b"
        lsn = self.rows[-1]["_pgi_lsn"] if after_old else number // 5
        sent = dict(zip(("id", "a", "b"), row, strict=True)) | dict.fromkeys(kept)
        self.rows.append(
            {
                "_pgi_lsn": lsn,
                "_pgi_sequence": number,
                "_pgi_xid": 1,
                "_pgi_op": op,
                "_pgi_whole": whole,
                "_pgi_unchanged": list(kept) or None,
                **sent,
            }
        )

    def old(self, op: str, row: Row) -> None:
        self.write(op, row if self.full else (row[0], None, None), whole=self.full)

    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(self.rows, schema=SCHEMA)


INSERT = st.tuples(st.just("insert"), KEYS, TEXTS, TEXTS)
UPDATE = st.tuples(st.just("update"), KEYS, KEYS, TEXTS | st.just(KEPT), TEXTS | st.just(KEPT))
CHANGES = st.lists(
    INSERT
    | UPDATE
    | UPDATE
    | st.tuples(st.just("delete"), KEYS)
    | st.sampled_from([("truncate",)] + [("delete", "0")] * 7),
    max_size=40,
)


def run(changes: list[tuple[Any, ...]], table: dict[str, Row], log: Log) -> None:
    """Do to `table` what is possible of `changes`, writing the log."""
    for change in changes:
        match change:
            case "insert", key, a, b if key not in table:
                table[key] = (key, a, b)
                log.write("i", table[key])
            case "update", key, to, a, b if key in table and (to == key or to not in table):
                was = table.pop(key)
                kept = tuple(n for n, value in (("a", a), ("b", b)) if value is KEPT)
                table[to] = (to, was[1] if a is KEPT else a, was[2] if b is KEPT else b)
                if log.full or to != key:
                    log.old("b", was)
                log.write("u", table[to], kept=kept)
            case "delete", key if key in table:
                log.old("d", table.pop(key))
            case ("truncate",):
                table.clear()
                log.write("t", (None, None, None), whole=False)


def apply(folded: Folded, stored: dict[str, Row]) -> dict[str, Row]:
    """What a destination does with a fold."""
    before = {} if folded.truncated else dict(stored)
    after = dict(before)
    for row in folded.states.iter_rows(named=True):
        after.pop(row["id"], None)
    for row in folded.states.filter("_pgi_present").iter_rows(named=True):
        values = {name: row[name] for name in ("id", "a", "b")}
        for name in row[UNCHANGED] or ():
            values[name] = before[row[BASE]["id"]][["id", "a", "b"].index(name)]
        after[row["id"]] = (values["id"], values["a"], values["b"])
    return after


@given(CHANGES, CHANGES, st.booleans())
def test_folding_ends_where_the_table_ends(
    earlier: list[tuple[Any, ...]], changes: list[tuple[Any, ...]], full: bool
) -> None:
    table: dict[str, Row] = {}
    run(earlier, table, Log(full=full))
    stored = dict(table)
    log = Log(full=full)
    run(changes, table, log)
    assert apply(fold(log.frame(), ["id"]), stored) == table


def tally(counted: Counted, stored: Counter[Row]) -> Counter[Row]:
    after = Counter() if counted.truncated else Counter(stored)
    for row in counted.rows.iter_rows(named=True):
        after[row["id"], row["a"], row["b"]] += row[COUNT]
    assert min(after.values(), default=0) >= 0
    return +after


MULTISET = st.lists(
    st.tuples(st.sampled_from(["i", "d", "u", "t"] + ["i"] * 5), KEYS, TEXTS, st.booleans()),
    max_size=40,
)


@given(MULTISET, MULTISET)
def test_counting_ends_where_the_multiset_ends(
    earlier: list[tuple[Any, ...]], changes: list[tuple[Any, ...]]
) -> None:
    table: Counter[Row] = Counter()

    def play(steps: list[tuple[Any, ...]], log: Log) -> None:
        nonlocal table
        for op, key, text, keep in steps:
            row: Row = (key, text, "toasted")
            match op:
                case "i":
                    table[row] += 1
                    log.write("i", row)
                case "d" if table[row]:
                    table[row] -= 1
                    log.write("d", row)
                case "u" if table[row]:
                    new: Row = (key, "z", "toasted" if keep else "other")
                    table[row] -= 1
                    table[new] += 1
                    log.write("b", row)
                    log.write("u", new, kept=("b",) if keep else ())
                case "t":
                    table.clear()
                    log.write("t", (None, None, None), whole=False)

    play(earlier, Log(full=True))
    stored = Counter(table)
    log = Log(full=True)
    play(changes, log)
    assert tally(count(log.frame(), ["id", "a", "b"]), stored) == +table


def test_a_long_chain_of_versions_is_followed_to_its_first_value() -> None:
    log = Log(full=False)
    log.write("i", ("0", "first", "big"))
    for number in range(1, 1000):
        log.old("b", (str(number - 1), None, None))
        log.write("u", (str(number), f"v{number}", None), kept=("b",))
    folded = fold(log.frame(), ["id"])
    there = folded.states.filter("_pgi_present")
    assert there.select("id", "a", "b", UNCHANGED).rows() == [("999", "v999", "big", None)]
    assert len(folded.states) == 1000
