"""Tuples of many messages at once, column by column.

A tuple is a column count and then, per column, a kind and perhaps a counted text, so where a column
starts depends on all columns before it *in its own tuple*, never on another tuple. One vector holds
the position in every tuple; each column moves the whole vector on by the length it finds there.

The texts stay where they are. For one column they are ascending, disjoint pieces of the buffer, so
`[start 0, end 0, start 1, end 1, …]` are the offsets of an Arrow array over the same buffer whose
even elements are the texts and whose odd ones are what lies between; taking the even ones is the only copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pg_ingest.decode.encoding import marked
from pg_ingest.decode.messages import Bytes, Integers
from pg_ingest.decode.wire import broken, gather
from pg_ingest.errors import ProtocolError

_TEXT, _NULL, _UNCHANGED, _BINARY = b"tnub"


@dataclass(frozen=True, slots=True, eq=False)
class Tuples:
    """Where some tuples lie.

    Attributes:
        positions: of each tuple's column count.
        limits: where each must end.
        indexes, origins: number and start of the message each belongs to, for errors.
    """

    buffer: Bytes
    positions: Integers
    limits: Integers
    indexes: Integers
    origins: Integers

    def __len__(self) -> int:
        return len(self.positions)

    def check(self, good: npt.NDArray[np.bool_], at: Integers, message: str) -> None:
        """Raise ProtocolError for the first tuple that is not `good`."""
        if not good.all():
            first = int(np.argmin(good))
            raise broken(
                message,
                index=int(self.indexes[first]),
                position=int(at[first] - self.origins[first]),
            )

    def pick(self, which: npt.NDArray[np.bool_]) -> Tuples:
        """Those tuples alone."""
        return Tuples(
            self.buffer,
            self.positions[which],
            self.limits[which],
            self.indexes[which],
            self.origins[which],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """One column of some tuples: where its texts lie, which are missing and which unchanged.

    `present` and `unchanged` are None when every value is present.
    """

    starts: Integers
    ends: Integers
    present: npt.NDArray[np.bool_] | None
    unchanged: npt.NDArray[np.bool_] | None


def column_counts(tuples: Tuples) -> Integers:
    """How many columns each tuple says it has."""
    tuples.check(
        tuples.positions + 2 <= tuples.limits, tuples.positions, "the message ends before its tuple"
    )
    counts: Integers = gather(tuples.buffer, tuples.positions, ">i2").astype(np.int64)
    tuples.check(counts >= 0, tuples.positions, "a tuple has a negative number of columns")
    return counts


def next_column(tuples: Tuples, at: Integers) -> Values:
    """The values that start at `at`; their `ends` are where the next column starts."""
    tuples.check(at < tuples.limits, at, "a tuple ends too early")
    kinds = tuples.buffer[at]
    present = kinds == _TEXT
    if present.all():
        return _texts(tuples, at)
    unchanged = kinds == _UNCHANGED
    tuples.check(kinds != _BINARY, at, "a value is binary although text was asked for")
    tuples.check(present | unchanged | (kinds == _NULL), at, "unknown kind of a value")
    starts = at + 1
    ends = starts.copy()
    if present.any():
        inner = _texts(tuples.pick(present), at[present])
        starts[present] = inner.starts
        ends[present] = inner.ends
    return Values(starts, ends, present, unchanged if unchanged.any() else None)


def _texts(tuples: Tuples, at: Integers) -> Values:
    starts = at + 5
    tuples.check(starts <= tuples.limits, at, "a value ends within its length")
    ends = starts + gather(tuples.buffer, at + 1, ">u4").astype(np.int64)
    tuples.check(ends <= tuples.limits, at, "a value is longer than its message")
    return Values(starts, ends, None, None)


def ends_of(tuples: Tuples) -> Integers:
    """Where each tuple ends, by its own column count."""
    left = column_counts(tuples)
    at = tuples.positions + 2
    while (open_ones := left > 0).any():
        at[open_ones] = next_column(tuples.pick(open_ones), at[open_ones]).ends
        left = left - 1
    return at


def memory_of(array: npt.NDArray[Any]) -> pa.Buffer:
    """The array's memory, shared."""
    return pa.py_buffer(array)


def as_text(buffer: Bytes, values: Values, name: str) -> pa.Array:
    """The column as Arrow strings, null where no value is present; raises ProtocolError for other bytes."""
    try:
        return _pieces(buffer, values).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise ProtocolError(
            "a value is not UTF-8",
            detail=f"in column {name}",
            hint="the database's encoding lets through what is not text in it (SQL_ASCII does)",
        ) from error


def as_marked_text(buffer: Bytes, values: Values) -> pa.Array:
    """The same, with bytes that are no text as `decode.encoding.marked` writes them."""
    pieces = _pieces(buffer, values)
    try:
        return pieces.cast(pa.string())
    except pa.ArrowInvalid:
        return marked(pieces)


def _pieces(buffer: Bytes, values: Values) -> pa.Array:
    size = len(values.starts)
    offsets = np.empty(2 * size, dtype=np.int32)
    offsets[0::2] = values.starts
    offsets[1::2] = values.ends
    pieces = pa.Array.from_buffers(
        pa.binary(), max(2 * size - 1, 0), [None, memory_of(offsets), memory_of(buffer)]
    )
    found: pa.Array = pieces.take(np.arange(0, 2 * size, 2))
    if values.present is not None:
        _, where, data = found.buffers()
        valid = memory_of(np.packbits(values.present, bitorder="little"))
        found = pa.Array.from_buffers(pa.binary(), size, [valid, where, data])
    return found
