"""A row filter holds in the log as in the snapshot.

The log tells every row's changes. What is stored of a row is its last state, if it passes; so only last states
are asked (by the server, see `postgres/row_filter.py`). A state that does not pass is a row that is not there:
whether it left across the filter's edge or never was inside, its key goes, and a key that is not stored goes
unnoticed. An update that brings a row inside is a state that passes, and comes like an insert. Without a key,
equal rows pass or do not pass together, so their counts come or go as a whole.

What the log may not tell: a value stored out of line that an update left alone. If the filter needs one, or a
row that was outside comes inside without it, no stored row has it, and the table is read anew. REPLICA IDENTITY
FULL sends all old values and avoids that. It is read anew too when the server cannot tell of what the log says
(a value that its type does not know any more, a division by zero). And when a column gets another type, for its
own reasons (`shape.difference`): as text, '10' < '5', so rows that nobody touched may pass then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from pg_ingest.changelog.fold import BASE, PRESENT, UNCHANGED, Counted, Folded
from pg_ingest.errors import QueryRefused
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.table import Column

FULL = "(REPLICA IDENTITY FULL would avoid that)"


@dataclass(frozen=True, slots=True)
class Passing:
    """The filter as it is asked of rows of one shape.

    Attributes:
        needed: the columns whose values it needs.
        ask: for rows with these columns as texts, which of them pass.
    """

    needed: Sequence[Column]
    ask: Callable[[pl.DataFrame], pl.Series]


def filter_states(folded: Folded, key: Sequence[str], passing: Passing) -> Folded:
    """States of rows that do not pass become rows that are not there; raises ReadAnew."""
    states = folded.states
    present = states.get_column(PRESENT)
    for column in passing.needed:
        unknown = states.select(present & pl.col(UNCHANGED).list.contains(column.name))
        if unknown.to_series().any():
            raise ReadAnew(
                f"the row filter needs {column.name}, whose value an update did not send {FULL}"
            )
    inside = present.scatter(present.arg_true(), _asked(passing, states.filter(present)))
    kept = {PRESENT, *key}
    values = [name for name in states.columns if name not in kept and not _is_ours(name)] + [
        UNCHANGED,
        BASE,
    ]
    cleared = [pl.when(inside).then(pl.col(name)).alias(name) for name in values]
    return Folded(folded.truncated, states.with_columns(inside.alias(PRESENT), *cleared))


def filter_counts(counted: Counted, passing: Passing) -> Counted:
    """Only rows that pass come or go."""
    return Counted(counted.truncated, counted.rows.filter(_asked(passing, counted.rows)))


def check_sent(rows: pl.DataFrame) -> None:
    """Raise ReadAnew for an insert without all values.

    The server sends one where its own filter made an update into an insert and had no old value.
    """
    torn = rows.select((pl.col("_pgi_op") == "i") & pl.col(UNCHANGED).is_not_null())
    if torn.to_series().any():
        raise ReadAnew(f"a row came inside the row filter without all its values {FULL}")


def _asked(passing: Passing, rows: pl.DataFrame) -> pl.Series:
    try:
        return passing.ask(rows)
    except QueryRefused as error:
        raise ReadAnew(f"the row filter fails for a row of the log: {error.detail}") from None


def _is_ours(name: str) -> bool:
    return name.startswith("_pgi_")
