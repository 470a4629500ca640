"""Values that the log does not tell: wal2json before 2.6 writes NaN and infinities as null.

Such a null is never stored. For the last state of a row the value is read from the row itself, by its key,
when the state is applied. That is right, although the row may have changed since:

- If nobody has changed it after the log's position, the value read is that of the state.
- If somebody has, what is read is newer than the state, and the change that made it so is in the log behind
  this position. It comes with a later step, and sets the row's last state anew.
- If the row is gone, so that nothing can be read, its delete, its change of key or a truncate is in the log
  behind this position as well. It counts as gone already.

So after the last step every row is what log and source say, and in between it never holds a value that it did
not have. Without a key a row cannot be asked; there, and where the key itself is not told, the table is read
anew. Shapes that keep every version need the values of versions that are no more: they are refused
(`list_log`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from pg_ingest.changelog.fold import LSN, OP, PRESENT, SEQUENCE, Folded
from pg_ingest.decode.messages import UNSAID
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.postgres.reread import THERE

Ask = Callable[[pl.DataFrame, Sequence[str]], pl.DataFrame]
"""For keys (texts) and names of columns, what `postgres.reread` returns."""

_NEWER = "_pgi_newer_"


@dataclass(frozen=True, slots=True, eq=False)
class Unsaid:
    """The rows whose last change did not tell everything: their keys, and `_pgi_unsaid`."""

    rows: pl.DataFrame
    columns: tuple[str, ...]


def take_unsaid(
    rows: pl.DataFrame, key: Sequence[str], columns: Sequence[str]
) -> tuple[pl.DataFrame, Unsaid | None]:
    """The rows without `_pgi_unsaid`, and what it said about `columns`; raises ReadAnew.

    Rows as in `decode.messages.Changes`.
    """
    if UNSAID not in rows.columns:
        return rows, None
    wanted = pl.col(UNSAID).list.set_intersection(list(columns))
    marked = rows.with_columns(pl.when(wanted.list.len() > 0).then(wanted).alias(UNSAID))
    found = marked.get_column(UNSAID).drop_nulls().explode(empty_as_null=False).unique().sort()
    rows = rows.drop(UNSAID)
    if not len(found):
        return rows, None
    if not key or set(key) & set(found):
        raise ReadAnew(
            f"{', '.join(found)} may be NaN or infinite, which this server's wal2json cannot tell"
        )
    doubtful = marked.filter(pl.col(UNSAID).is_not_null()).select(key).unique()
    last = (
        marked.join(doubtful, on=list(key), how="semi", nulls_equal=True)
        .sort(LSN, SEQUENCE)
        .unique(list(key), keep="last", maintain_order=True)
        .filter(pl.col(OP).is_in(["i", "u"]) & pl.col(UNSAID).is_not_null())
        .select(*key, UNSAID)
    )
    if last.select(pl.any_horizontal(pl.col(list(key)).is_null()).any()).item():
        raise ReadAnew("a row without a value in its key has values that this wal2json cannot tell")
    return rows, Unsaid(last, tuple(found)) if len(last) else None


def say(folded: Folded, unsaid: Unsaid, key: Sequence[str], ask: Ask) -> Folded:
    """The states with what the rows themselves say; rows that are gone become rows that are not there."""
    states = folded.states
    asked = unsaid.rows.join(
        states.filter(PRESENT).select(key), on=list(key), how="semi", maintain_order="left"
    )
    if not len(asked):
        return folded
    newer = ask(asked.select(key), unsaid.columns)
    answers = asked.hstack(newer.rename({name: _NEWER + name for name in unsaid.columns}))
    joined = states.join(answers, on=list(key), how="left", maintain_order="left")
    there = pl.col(THERE).fill_null(True)
    values = [
        pl.when(pl.col(UNSAID).list.contains(name).fill_null(False))
        .then(pl.col(_NEWER + name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in unsaid.columns
    ]
    kept = {LSN, PRESENT, *key}
    filled = joined.with_columns(values).select(
        (pl.col(PRESENT) & there).alias(name)
        if name == PRESENT
        else pl.col(name)
        if name in kept
        else pl.when(there).then(pl.col(name)).alias(name)
        for name in states.columns
    )
    return replace(folded, states=filled)
