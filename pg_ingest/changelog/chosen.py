"""Columns that the configuration leaves out never reach the change log.

Where the server can, it does not send them at all (`postgres/publication_parts.py`). Otherwise they are dropped
here, in memory, before a segment is written, so they are never on our disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa

from pg_ingest.decode.messages import RESERVED, Changes

_UNCHANGED = "_pgi_unchanged"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which columns of a table are kept: `only` these (None for all), but never `without`."""

    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    def keeps(self, column: str) -> bool:
        """Whether a column of that name is kept."""
        return (self.only is None or column in self.only) and column not in self.without


def only_chosen(changes: Changes, chosen: Chosen) -> Changes:
    """The changes as if the table had no other columns."""
    columns = changes.relation.columns
    left_out = [column.name for column in columns if not chosen.keeps(column.name)]
    if not left_out:
        return changes
    kept = tuple(column for column in columns if chosen.keeps(column.name))
    rows = changes.rows.select(_left(changes.rows.schema.names, left_out))
    at = rows.schema.get_field_index(_UNCHANGED)
    names = _without(rows.column(at), left_out)
    rows = rows.set_column(at, rows.schema.field(at), names)
    return Changes(replace(changes.relation, columns=kept), rows)


def without_columns(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Rows of the change log as if the table did not have these columns."""
    left = pl.col(_UNCHANGED).list.filter(~pl.element().is_in(names))
    unchanged = pl.when(left.list.len() > 0).then(left)
    kept = _left(rows.columns, names)
    # each by `get_column`: elsewhere Polars takes a name like `*` for a pattern
    return pl.DataFrame([rows.get_column(name) for name in kept]).with_columns(
        unchanged.alias(_UNCHANGED)
    )


def _left(columns: Sequence[str], without: Sequence[str]) -> list[str]:
    """A table's column with a name of ours is not in the rows: the one that is there is ours."""
    gone = {name for name in without if not name.startswith(RESERVED)}
    return [name for name in columns if name not in gone]


def _without(lists: pa.Array, names: Sequence[str]) -> pa.Array:
    if lists.null_count == len(lists):
        return lists
    found = without_columns(pl.DataFrame({_UNCHANGED: pl.Series(lists)}), names)
    return found.to_series().to_arrow().cast(lists.type)
