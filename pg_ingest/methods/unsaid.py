"""Values that the log does not tell: wal2json before 2.6 writes NaN and infinities as null.

A column that may be NULL as well is refused when its table joins (`list_log`). What is left are columns that
are NOT NULL, or were changed since: there null means something, and only the row itself says what.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pg_ingest.decode.messages import UNSAID
from pg_ingest.methods.shape import ReadAnew
from pg_ingest.table import Column


def all_said(rows: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """The rows without `_pgi_unsaid`; raises ReadAnew when a value of one of these columns is in it."""
    if UNSAID not in rows.columns:
        return rows
    found = rows.get_column(UNSAID).drop_nulls().explode(empty_as_null=False).unique()
    doubtful = sorted(set(found) & {column.name for column in columns})
    if doubtful:
        raise ReadAnew(
            f"{', '.join(doubtful)} may be NaN or infinite, which this wal2json cannot write"
        )
    return rows.drop(UNSAID)
