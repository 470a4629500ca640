"""Folding against a table kept row by row, fed by random changes as PostgreSQL would log them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pg_ingest.changelog.fold import BASE, COUNT, UNCHANGED, Counted, Folded, count, fold
from pg_ingest_tests.changelog.simulated import CHANGES, KEYS, TEXTS, Log, Row, run


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
