"""A log written row by row, the way pgoutput sends it, beside the table that it is about."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import strategies as st

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
