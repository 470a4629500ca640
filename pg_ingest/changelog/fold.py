"""Many changes of one table to the last state of each row.

Why this is right. The log is in order of (commit LSN, sequence), and every change names the key of
the row it is about: an insert and an update by the new tuple, a delete and a key change by the old
one (`b`). So the last tuple that carries a key says whether a row with this key is there now (`i`,
`u`) or not (`b`, `d`), and what was there before does not matter. PostgreSQL decides bit by bit
whether a key changed (`HeapDetermineColumnsInfo` in heapam.c), so keys that it calls equal but
prints differently (`1.0`, `1.00`) still arrive as a key change, and comparing texts is exact.

One thing does look back: a value stored out of line that an update left alone is not sent. Its text
is that of the row's version before, which stands earlier in the batch under the same key or, after a
key change, under the old one, and may itself have been left out. These versions form chains; all
chains are followed at once by pointer doubling. What even the first version of a batch left out is
still in the destination, under the key that the row had there (`_pgi_base`).

Without a key every old and new tuple is whole (REPLICA IDENTITY FULL), and the table is a multiset:
each tuple counts +1 or -1, and the sums say how many equal rows come or go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

LSN, SEQUENCE, OP = "_pgi_lsn", "_pgi_sequence", "_pgi_op"
WHOLE, PRESENT, COUNT = "_pgi_whole", "_pgi_present", "_pgi_count"
UNCHANGED, BASE = "_pgi_unchanged", "_pgi_base"

_ROW = "_pgi_row"
_PRESENT = ("i", "u")

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Folded:
    """What must happen in the destination.

    Attributes:
        truncated: all rows that were there before the batch go first.
        states: one row per key of the batch, as `batch.Changes` wants it: `_pgi_lsn` (the last
            change), `_pgi_present`, the table's columns (texts; only the key where the row is gone),
            `_pgi_unchanged` (list of columns whose value the destination still has, null for none)
            and `_pgi_base` (struct of key columns: where it has them).
    """

    truncated: bool
    states: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Counted:
    """The same for a table without a key.

    Attributes:
        truncated: all rows that are there go first.
        rows: distinct rows (texts) with `_pgi_count` (never 0): how many equal rows come (above 0)
            or go, and `_pgi_lsn`, the last commit that touched such a row.
    """

    truncated: bool
    rows: pl.DataFrame


def fold(changes: pl.DataFrame, key: Sequence[str]) -> Folded:
    """Fold changes of one shape (columns as in `decode.messages.Changes.rows`) by key.

    `key` must be part of the replica identity, so that old tuples carry it.
    """
    truncated, rows = _since_truncate(changes)
    last = rows.unique(key, keep="last", maintain_order=True)
    present = pl.col(OP).is_in(_PRESENT).alias(PRESENT)
    states = _fill(last, rows, list(key)).with_columns(present)
    columns = [name for name in changes.columns if not name.startswith("_pgi_")]
    values = [
        column if name in key else pl.when(PRESENT).then(column).alias(name)
        for name, column in ((name, pl.col(name)) for name in columns)
    ]
    return Folded(truncated, states.select(LSN, PRESENT, *values, UNCHANGED, BASE))


def count(changes: pl.DataFrame, columns: Sequence[str]) -> Counted:
    """Fold changes of a table without a key (REPLICA IDENTITY FULL) to counts of equal rows."""
    truncated, rows = _since_truncate(changes)
    for column in _left_out(rows):
        kept = pl.col(UNCHANGED).list.contains(column).fill_null(False)
        rows = rows.with_columns(
            pl.when(kept).then(pl.col(column).shift(1)).otherwise(pl.col(column)).alias(column)
        )
    sign = pl.when(pl.col(OP).is_in(_PRESENT)).then(1).otherwise(-1)
    sums = rows.group_by(list(columns), maintain_order=True).agg(
        sign.sum().cast(pl.Int64).alias(COUNT), pl.col(LSN).last()
    )
    return Counted(truncated, sums.filter(pl.col(COUNT) != 0))


def _since_truncate(changes: pl.DataFrame) -> tuple[bool, pl.DataFrame]:
    rows = changes.sort(LSN, SEQUENCE).with_row_index(_ROW)
    last = rows.filter(pl.col(OP) == "t").get_column(_ROW).max()
    if last is None:
        return False, rows
    kept = rows.filter(pl.col(_ROW) > last)
    return True, kept.drop(_ROW).with_row_index(_ROW)


def _left_out(rows: pl.DataFrame) -> list[str]:
    """The columns of which at least one value was not sent."""
    names = rows.get_column(UNCHANGED).drop_nulls().explode(empty_as_null=False)
    return sorted(names.drop_nulls().unique().to_list())


def _fill(last: pl.DataFrame, rows: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Put the values that updates left out into `last`, as far as `rows` has them."""
    no_base = pl.lit(None, pl.Struct({name: rows.schema[name] for name in key})).alias(BASE)
    columns = _left_out(last)
    if not columns:
        return last.with_columns(no_base)
    paired, before = _versions(rows, key)
    ends = last.get_column(_ROW).to_numpy().astype(np.int64)
    missing: dict[str, npt.NDArray[np.bool_]] = {}
    filled: list[pl.Series] = []
    first = ends
    for column in columns:
        left_out = _contains(rows, column)
        source = _follow(np.where(left_out & (before >= 0), before, np.arange(len(rows))))[ends]
        filled.append(rows.get_column(column).gather(source).alias(column))
        missing[column] = left_out[source]
        first = np.where(missing[column], source, first)
    base = rows.select(key)[np.where(paired[first], first - 1, first)]
    still = pl.DataFrame(missing).select(_names(columns).alias(UNCHANGED))
    return last.with_columns(
        *filled, still.get_column(UNCHANGED), base.to_struct(BASE)
    ).with_columns(pl.when(pl.col(UNCHANGED).is_not_null()).then(pl.col(BASE)).alias(BASE))


def _versions(rows: pl.DataFrame, key: list[str]) -> tuple[npt.NDArray[np.bool_], _Integers]:
    """For each tuple: is the one before it its own old tuple, and where is its version before?

    The second is -1 where the batch holds none.
    """
    old = pl.col(OP).shift(1) == "b"
    same = (pl.col(LSN).shift(1) == pl.col(LSN)) & (
        pl.col(SEQUENCE).shift(1) == pl.col(SEQUENCE) - 1
    )
    facts = rows.select(
        ((pl.col(OP) == "u") & old & same).fill_null(False).alias("paired"),
        pl.col(WHOLE).shift(1).fill_null(False).alias("whole_old"),
        pl.col(_ROW).cast(pl.Int64).shift(1).over(key).fill_null(-1).alias("before"),
    )
    paired = facts.get_column("paired").to_numpy()
    before = facts.get_column("before").to_numpy()
    row = np.arange(len(rows))
    moved = np.where(facts.get_column("whole_old").to_numpy(), row - 1, np.roll(before, 1))
    return paired, np.where(paired, moved, before)


def _follow(pointers: _Integers) -> _Integers:
    """Where each chain ends; a chain of n links takes log2(n) rounds."""
    while True:
        further = pointers[pointers]
        if np.array_equal(further, pointers):
            return pointers
        pointers = further


def _contains(rows: pl.DataFrame, column: str) -> npt.NDArray[np.bool_]:
    inside = rows.select(pl.col(UNCHANGED).list.contains(column).fill_null(False))
    return inside.to_series().to_numpy()


def _names(columns: list[str]) -> pl.Expr:
    """The names of the columns that are true, null for none."""
    names = pl.concat_list(
        [pl.when(pl.col(name)).then(pl.lit(name)).otherwise(None) for name in columns]
    ).list.drop_nulls()
    return pl.when(names.list.len() > 0).then(names)
