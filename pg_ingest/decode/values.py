"""Columns of PostgreSQL texts → typed Arrow columns, the same whichever method brought the text.

COPY, pgoutput and wal2json all give a value as its type's output function prints it, so one decoder
serves them all, provided the session prints them as the connection pins it: DateStyle ISO, TimeZone
UTC, bytea_output hex, IntervalStyle iso_8601, extra_float_digits at the shortest exact form and
client_encoding UTF8. PostgreSQL text never holds a NUL byte, so neither does what comes out of here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.batch import REJECTED_SCHEMA, Batch
from pg_ingest.decode.arrays import decode_arrays
from pg_ingest.decode.binary import decode_binary
from pg_ingest.decode.calendar import decode_dates, decode_times, decode_timestamps
from pg_ingest.decode.decoded import Decoded, first_problem
from pg_ingest.decode.encoding import as_text, as_text_or_hex
from pg_ingest.decode.numeric import (
    decode_booleans,
    decode_decimals,
    decode_floats,
    decode_integers,
)
from pg_ingest.decode.types import ARRAY, arrow_schema, rule_for
from pg_ingest.table import Column


def decode_column(texts: pa.Array, column: Column) -> Decoded:
    """The texts of one column (string, large_string or string_view) as its Arrow type.

    Binary texts are bytes that may not be UTF-8: those that are not cannot be stored. One column of
    one batch may hold up to 2 GiB of text; more raises pa.ArrowInvalid.
    """
    if pa.types.is_binary(texts.type):
        texts, problems = as_text(texts)
        decoded = _decode(texts, column)
        return Decoded(decoded.values, first_problem(problems, decoded.problems))
    return _decode(pc.cast(texts, pa.string()), column)


def _decode(texts: pa.StringArray, column: Column) -> Decoded:
    rule, element = rule_for(column.type), column.type.element
    if rule is ARRAY and element is not None:
        return decode_arrays(texts, element)
    arrow = rule.arrow
    if pa.types.is_string(arrow):
        return Decoded(texts)
    if pa.types.is_boolean(arrow):
        return decode_booleans(texts)
    if pa.types.is_integer(arrow):
        return decode_integers(texts, arrow)
    if pa.types.is_floating(arrow):
        return decode_floats(texts, arrow)
    if isinstance(arrow, pa.Decimal128Type):
        return decode_decimals(texts, arrow)
    if pa.types.is_date32(arrow):
        return decode_dates(texts)
    if isinstance(arrow, pa.TimestampType):
        return decode_timestamps(texts, arrow)
    if pa.types.is_time64(arrow):
        return decode_times(texts)
    if pa.types.is_binary(arrow):
        return decode_binary(texts)
    raise AssertionError(f"no decoder for {arrow}, the Arrow type of {column.type.display}")


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """All rows of some texts.

    Attributes:
        rows: one per row of texts; a value that cannot be stored is null.
        kept: false where a row has such a value.
        rejected: those rows as Batch.rejected wants them, None when there are none.
    """

    rows: pa.RecordBatch
    kept: npt.NDArray[np.bool_]
    rejected: pa.RecordBatch | None


def decode_rows(texts: Sequence[pa.Array], columns: Sequence[Column]) -> DecodedRows:
    """The columns' texts, all of one length, as rows; those that cannot be stored stay in place."""
    decoded = [decode_column(*pair) for pair in zip(texts, columns, strict=True)]
    rows = pa.RecordBatch.from_arrays(
        [each.values for each in decoded], schema=arrow_schema(columns)
    )
    at_fault = np.full(rows.num_rows, -1)
    for index in reversed(range(len(columns))):
        problems = decoded[index].problems
        if problems is not None:
            at_fault[pc.is_valid(problems).to_numpy(zero_copy_only=False)] = index
    kept = at_fault < 0
    rejected = None if kept.all() else _rejected(texts, columns, decoded, at_fault)
    return DecodedRows(rows, kept, rejected)


def decode_batch(texts: Sequence[pa.Array], columns: Sequence[Column], size: int) -> Batch:
    """The texts of one or more columns, all of one length, as a Batch of `size` bytes.

    A row with a value that cannot be stored goes to `rejected`, with the first such column's reason.
    """
    decoded = decode_rows(texts, columns)
    if decoded.rejected is None:
        return Batch(decoded.rows, size=size)
    return Batch(decoded.rows.filter(pa.array(decoded.kept)), decoded.rejected, size)


def _rejected(
    texts: Sequence[pa.Array],
    columns: Sequence[Column],
    decoded: Sequence[Decoded],
    at_fault: npt.NDArray[np.int64],
) -> pa.RecordBatch:
    """The rejected rows, in order; their texts go through Polars, which writes JSON by column."""
    positions = np.flatnonzero(at_fault >= 0)
    faults = at_fault[positions]
    names = pa.array([column.name for column in columns], pa.string())
    reasons = pa.nulls(len(positions), pa.string())
    for index in np.unique(faults):
        problems = decoded[index].problems
        assert problems is not None
        reasons = pc.coalesce(
            reasons,
            pc.if_else(pa.array(faults == index), problems.take(positions), None),
        )
    frame = pl.DataFrame(
        {
            column.name: _readable(each, positions)
            for column, each in zip(columns, texts, strict=True)
        }
    )
    row = frame.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return pa.RecordBatch.from_arrays(
        [names.take(faults), reasons, pc.cast(row.to_arrow(), pa.string())],
        schema=REJECTED_SCHEMA,
    )


def _readable(texts: pa.Array, positions: npt.NDArray[np.int64]) -> pl.Series:
    if pa.types.is_binary(texts.type):
        return pl.Series(as_text_or_hex(texts.take(positions)))
    return pl.Series(texts).gather(positions)
