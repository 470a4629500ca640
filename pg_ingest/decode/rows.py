"""The tuples of Insert, Update, Delete and Truncate messages as rows, and rows as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pg_ingest.decode.messages import RESERVED, Bytes, Integers, Messages, Relation
from pg_ingest.decode.rare import Truncation
from pg_ingest.decode.tuples import (
    Tuples,
    Values,
    as_marked_text,
    column_counts,
    ends_of,
    memory_of,
    next_column,
)
from pg_ingest.decode.wire import broken, gather

_INSERT, _UPDATE, _DELETE = b"IUD"
_NEW, _KEY, _OLD = b"NKO"
_OP_INSERT, _OP_UPDATE, _OP_BEFORE, _OP_DELETE, _OP_TRUNCATE = b"iubdt"
_OPS = np.zeros(256, dtype=np.uint8)
_OPS[[_INSERT, _UPDATE, _DELETE]] = _OP_INSERT, _OP_UPDATE, _OP_DELETE
_TUPLE_AT = 6  # tag, relation oid, kind of the tuple
_NO_TUPLE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows, in the order of the log.

    Attributes:
        indexes: the number of each row's message.
        second: 1 for the new row of an update whose message also has the old one, else 0.
        oids: of its relation.
        ops: see `Changes`.
        whole: the tuple has all columns.
        positions, limits: where the tuple starts and must end, -1 for a truncate.
    """

    indexes: Integers
    second: Integers
    oids: Integers
    ops: Bytes
    whole: npt.NDArray[np.bool_]
    positions: Integers
    limits: Integers

    def __len__(self) -> int:
        return len(self.indexes)

    def pick(self, which: npt.NDArray[np.bool_] | Integers) -> Rows:
        """Those rows, in that order."""
        return Rows(
            self.indexes[which],
            self.second[which],
            self.oids[which],
            self.ops[which],
            self.whole[which],
            self.positions[which],
            self.limits[which],
        )


def rows_of(messages: Messages, tags: Bytes, truncations: Sequence[Truncation]) -> Rows:
    """Every row of a piece."""
    rows = _changed(messages, tags)
    updates = (tags[rows.indexes] == _UPDATE) & (rows.ops == _OP_BEFORE)
    parts = [rows]
    if updates.any():
        parts.append(_new_rows(messages, rows.pick(updates)))
    if truncations:
        parts.append(_truncated(truncations))
    return parts[0] if len(parts) == 1 else _merge(parts)


def row_count(messages: int, rows: Rows) -> Integers:
    """How many rows each message has; a Truncate counts once for all its tables."""
    counts = np.zeros(messages, dtype=np.int64)
    counts[rows.indexes] = rows.second + 1  # of two rows of one message the second is written last
    return counts


def _changed(messages: Messages, tags: Bytes) -> Rows:
    """The first tuple of each Insert, Update and Delete."""
    indexes = np.flatnonzero(_OPS[tags])
    starts = messages.starts[indexes]
    ends = starts + messages.lengths[indexes]
    _check(indexes, ends - starts > _TUPLE_AT, "the message ends before its tuple", 1)
    tags = tags[indexes]
    kinds = messages.buffer[starts + _TUPLE_AT - 1]
    new = kinds == _NEW
    old = (kinds == _KEY) | (kinds == _OLD)
    good = np.where(tags == _INSERT, new, np.where(tags == _DELETE, old, new | old))
    _check(indexes, good, "unexpected kind of a tuple", _TUPLE_AT - 1)
    ops = _OPS[tags]
    ops[(tags == _UPDATE) & old] = _OP_BEFORE
    return Rows(
        indexes=indexes,
        second=np.zeros(len(indexes), dtype=np.int64),
        oids=gather(messages.buffer, starts + 1, ">u4").astype(np.int64),
        ops=ops,
        whole=kinds != _KEY,
        positions=starts + _TUPLE_AT,
        limits=ends,
    )


def _new_rows(messages: Messages, before: Rows) -> Rows:
    """The new rows of the updates whose old ones are `before`."""
    tuples = _tuples(messages, before)
    ends = ends_of(tuples)
    tuples.check(ends < tuples.limits, ends, "an update ends before its new row")
    tuples.check(messages.buffer[ends] == _NEW, ends, "an update has no new row")
    return Rows(
        indexes=before.indexes,
        second=np.ones(len(before), dtype=np.int64),
        oids=before.oids,
        ops=np.full(len(before), _OP_UPDATE, dtype=np.uint8),
        whole=np.ones(len(before), dtype=np.bool_),
        positions=ends + 1,
        limits=before.limits,
    )


def _truncated(truncations: Sequence[Truncation]) -> Rows:
    """One row for each truncated table."""
    oids = [oid for truncation in truncations for oid in truncation.oids]
    indexes = np.repeat(
        np.array([t.index for t in truncations]), np.array([len(t.oids) for t in truncations])
    )
    none = np.full(len(oids), _NO_TUPLE, dtype=np.int64)
    return Rows(
        indexes=indexes,
        second=np.zeros(len(oids), dtype=np.int64),
        oids=np.array(oids, dtype=np.int64),
        ops=np.full(len(oids), _OP_TRUNCATE, dtype=np.uint8),
        whole=np.ones(len(oids), dtype=np.bool_),
        positions=none,
        limits=none,
    )


def _merge(parts: Sequence[Rows]) -> Rows:
    joined = Rows(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("indexes", "second", "oids", "ops", "whole", "positions", "limits")
        )
    )
    return joined.pick(np.argsort(joined.indexes * 2 + joined.second, kind="stable"))


def _tuples(messages: Messages, rows: Rows) -> Tuples:
    return Tuples(
        messages.buffer, rows.positions, rows.limits, rows.indexes, messages.starts[rows.indexes]
    )


def _check(indexes: Integers, good: npt.NDArray[np.bool_], message: str, position: int) -> None:
    if not good.all():
        raise broken(message, index=int(indexes[np.argmin(good)]), position=position)


def values_of(messages: Messages, rows: Rows, relation: Relation) -> list[pa.Array]:
    """`_pgi_unchanged` and then each column of `relation` that is not reserved, for rows of it."""
    is_tuple = rows.ops != _OP_TRUNCATE
    full = bool(is_tuple.all())
    tuples = _tuples(messages, rows if full else rows.pick(is_tuple))
    counts = column_counts(tuples)
    tuples.check(
        counts == len(relation.columns),
        tuples.positions,
        f"a tuple has another number of columns than its relation ({len(relation.columns)})",
    )
    at = tuples.positions + 2
    arrays: list[pa.Array] = []
    unchanged: dict[str, npt.NDArray[np.bool_]] = {}
    for column in relation.columns:
        values = next_column(tuples, at)
        at = values.ends
        if not full:
            values = _spread(values, is_tuple, messages.starts[rows.indexes])
        if column.name.startswith(RESERVED):
            continue
        if values.unchanged is not None:
            unchanged[column.name] = values.unchanged
        arrays.append(as_marked_text(messages.buffer, values))
    last = rows.ops[is_tuple] != _OP_BEFORE
    tuples.check((at == tuples.limits) | ~last, at, "bytes are left after the tuple")
    return [names_of(unchanged, len(rows)), *arrays]


def ops_of(rows: Rows) -> pa.Array:
    """`_pgi_op` of these rows."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32)
    buffers = [None, memory_of(offsets), memory_of(rows.ops)]
    return pa.Array.from_buffers(pa.string(), len(rows), buffers)


def _spread(values: Values, is_tuple: npt.NDArray[np.bool_], elsewhere: Integers) -> Values:
    """The same values among rows that have none; `elsewhere` keeps the places ascending."""
    starts = elsewhere.copy()
    ends = elsewhere.copy()
    starts[is_tuple] = values.starts
    ends[is_tuple] = values.ends
    present = is_tuple.copy()
    if values.present is not None:
        present[is_tuple] = values.present
    unchanged = None
    if values.unchanged is not None:
        unchanged = np.zeros(len(is_tuple), dtype=np.bool_)
        unchanged[is_tuple] = values.unchanged
    return Values(starts, ends, present, unchanged)


def names_of(marks_of: Mapping[str, npt.NDArray[np.bool_]], size: int) -> pa.Array:
    """Per row the names of the columns that are marked, null for none."""
    kind = pa.list_(pa.string())
    if not marks_of:
        return pa.nulls(size, kind)
    marks = np.stack(list(marks_of.values()), axis=1)
    row, column = np.nonzero(marks)
    offsets = np.searchsorted(row, np.arange(size + 1)).astype(np.int32)
    names = pa.array(list(marks_of), pa.string()).take(column)
    valid = memory_of(np.packbits(marks.any(axis=1), bitorder="little"))
    found: pa.Array = pa.Array.from_buffers(
        kind, size, [valid, memory_of(offsets)], children=[names]
    )
    return found
