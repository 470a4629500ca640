"""Folded changes as rows that a destination applies: typed, with the control columns of their scope.

A new version of a row that cannot be stored is rejected, and the stored row of its key goes: a table
without a row, and a record that says why, is honest; a table with yesterday's version of it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.batch import SYSTEM, Batch
from pg_ingest.changelog.fold import BASE, COUNT, LSN, PRESENT, UNCHANGED
from pg_ingest.decode.encoding import unmarked
from pg_ingest.decode.types import arrow_field, arrow_schema
from pg_ingest.decode.values import DecodedRows, decode_column, decode_rows
from pg_ingest.table import Column

DELETED_AT = "_pgi_deleted_at"


def stored_fields(*, soft: bool) -> list[pa.Field]:
    """Our own columns that stand beside the data of a log-based table."""
    fields = [_field(LSN, pa.int64(), b"stored")]
    return [*fields, _field(DELETED_AT, pa.timestamp("us", "UTC"), b"stored")] if soft else fields


def keyed_rows(
    states: pl.DataFrame, columns: Sequence[Column], key: Sequence[str], *, soft: bool, size: int
) -> Batch:
    """States by key (`fold.Folded.states`) as the scope `batch.Changes` wants them."""
    decoded = _decode(states, columns)
    keys = [column for column in columns if column.name in key]
    present = pc.and_(_arrow(states, PRESENT), pa.array(decoded.kept))
    base = states.get_column(BASE).struct
    bases = [
        decode_column(
            unmarked(_arrow(base.field(column.name).to_frame(), column.name)), column
        ).values
        for column in keys
    ]
    control = {
        _field(PRESENT, pa.bool_(), b"control"): present,
        _field(UNCHANGED, pa.list_(pa.string()), b"control"): pc.cast(
            _arrow(states, UNCHANGED), pa.list_(pa.string())
        ),
        _field(BASE, pa.struct([_plain(column) for column in keys]), b"control"): (
            pa.StructArray.from_arrays(bases, fields=[_plain(column) for column in keys])
        ),
    }
    return _batch(states, decoded, columns, control, soft=soft, size=size)


def counted_rows(rows: pl.DataFrame, columns: Sequence[Column], *, soft: bool, size: int) -> Batch:
    """Counts of equal rows (`fold.Counted.rows`) as the scope `batch.Counts` wants them."""
    decoded = _decode(rows, columns)
    control = {_field(COUNT, pa.int64(), b"control"): _arrow(rows, COUNT)}
    batch = _batch(rows, decoded, columns, control, soft=soft, size=size)
    return Batch(batch.rows.filter(pa.array(decoded.kept)), batch.rejected, size)


def _decode(frame: pl.DataFrame, columns: Sequence[Column]) -> DecodedRows:
    return decode_rows([unmarked(_arrow(frame, column.name)) for column in columns], columns)


def _batch(
    frame: pl.DataFrame,
    decoded: DecodedRows,
    columns: Sequence[Column],
    control: dict[pa.Field, pa.Array],
    *,
    soft: bool,
    size: int,
) -> Batch:
    lsn, *marks = stored_fields(soft=soft)
    fields = [*arrow_schema(columns), lsn, *marks, *control]
    arrays = [
        *decoded.rows.columns,
        _arrow(frame, LSN),
        *(pa.nulls(len(frame), mark.type) for mark in marks),
        *control.values(),
    ]
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    return Batch(rows, decoded.rejected, size)


def _field(name: str, arrow: pa.DataType, role: bytes) -> pa.Field:
    return pa.field(name, arrow, metadata={SYSTEM: role})


def _plain(column: Column) -> pa.Field:
    return pa.field(column.name, arrow_field(column).type)


def _arrow(frame: pl.DataFrame, name: str) -> pa.Array:
    return frame.get_column(name).rechunk().to_arrow()
