"""Rows of one relation as Arrow columns, and the rows of all partitions of a root in the order of the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.messages import (
    RESERVED,
    SYSTEM_COLUMNS,
    UNKNOWN_MODIFIER,
    UNSAID,
    Bytes,
    Changes,
    Integers,
    JsonColumn,
    Relation,
    RelationColumn,
)
from pg_ingest.decode.rows import names_of
from pg_ingest.decode.transactions import Transactions
from pg_ingest.decode.tuples import Values, as_text
from pg_ingest.decode.wal2json.escapes import unescaped
from pg_ingest.decode.wal2json.headers import INSERT, UPDATE
from pg_ingest.decode.wal2json.rows import Read
from pg_ingest.decode.wal2json.tokens import Mask, byte_at
from pg_ingest.decode.wal2json.walk import ABSENT, BARE, NULL, TEXT, Cells
from pg_ingest.errors import ProtocolError
from pg_ingest.table import ReplicaIdentity, TableId

_BOOL, _BYTEA = 16, 17
_NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 1700})
NAN_AS_NULL = frozenset({700, 701, 1700})
"""float4, float8, numeric: their NaN and infinities come as null unless the plugin writes numbers as texts."""

_BEGINS_NUMBER = np.isin(np.arange(256), np.frombuffer(b"-+.0123456789", dtype=np.uint8))


@dataclass(frozen=True, slots=True)
class Listed:
    """What the catalogue says of a relation whose name stands in messages.

    Attributes:
        oid: its own; `root` that of the table its rows belong to, itself if it is no partition.
        id: of the root.
        order: the root's columns.
        generated: positions (`attnum`) of its own generated columns, which are left out.
        live: positions of all columns that it has now.
        identity: the kind that it has now.
    """

    oid: int
    root: int
    id: TableId
    order: tuple[str, ...]
    generated: frozenset[int]
    live: frozenset[int]
    identity: ReplicaIdentity


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some rows of one shape of a table.

    Attributes:
        relation: None for truncates, which go with the shape before them.
        places: of each row, twice the number of its message, and one more for an update's new row.
        ops: as in `Changes`.
        columns: by name, those of `relation`.
        unchanged, unsaid: by column, which rows.
    """

    relation: Relation | None
    places: Integers
    ops: pa.Array
    whole: Mask
    columns: dict[str, pa.Array]
    unchanged: dict[str, Mask]
    unsaid: dict[str, Mask] | None


def blocks_of(read: Read, listed: Listed, *, says_all: bool) -> Iterator[Block]:
    """The new rows of some messages, and the old ones."""
    relation = _relation(read, listed)
    kept = {column.name: column for column in _kept(read, listed)}
    for old in (False, True):
        which, cells = read.rows(old=old)
        count = int(which.sum())
        if not count:
            continue
        tags = read.listings.tags[which]
        yield Block(
            relation=relation,
            places=read.listings.indexes[which] * 2 + (not old) * (tags == UPDATE),
            ops=_ops(tags, old=old),
            whole=np.full(count, not old or read.whole),
            columns={name: _texts(read, cells[name], column) for name, column in kept.items()},
            unchanged=_marks(kept.values(), cells, ABSENT),
            unsaid=None if says_all else _marks(_doubtful(kept.values(), read, old), cells, NULL),
        )


def truncated(listed: Listed, indexes: Integers) -> Block:
    """The truncates of a table."""
    ops = pa.array(["t"] * len(indexes), pa.string())
    return Block(None, indexes * 2, ops, np.ones(len(indexes), dtype=np.bool_), {}, {}, None)


def _relation(read: Read, listed: Listed) -> Relation:
    identity = frozenset(read.layout.identity)
    kind = ReplicaIdentity.DEFAULT if listed.identity is ReplicaIdentity.FULL else listed.identity
    return Relation(
        listed.root,
        listed.id,
        ReplicaIdentity.FULL if read.whole else kind,
        tuple(
            RelationColumn(each.name, each.type_oid, UNKNOWN_MODIFIER, each.name in identity)
            for each in _kept(read, listed)
        ),
    )


def _kept(read: Read, listed: Listed) -> list[JsonColumn]:
    """The columns that are not generated, in the root's order; others behind them."""
    place = {name: number for number, name in enumerate(listed.order)}
    columns = [each for each in read.layout.columns if each.position not in listed.generated]
    return sorted(columns, key=lambda column: place.get(column.name, len(place)))


def _ops(tags: Bytes, *, old: bool) -> pa.Array:
    if old:
        return pa.array(np.where(tags == UPDATE, "b", "d"), pa.string())
    return pa.array(np.where(tags == INSERT, "i", "u"), pa.string())


def _doubtful(columns: Iterable[JsonColumn], read: Read, old: bool) -> list[JsonColumn]:
    """Where null may mean something else than NULL."""
    told = frozenset(read.layout.identity)
    return [c for c in columns if c.type_oid in NAN_AS_NULL and (not old or c.name in told)]


def _marks(columns: Iterable[JsonColumn], cells: Mapping[str, Cells], kind: int) -> dict[str, Mask]:
    marks = {column.name: cells[column.name].kinds == kind for column in columns}
    return {name: marked for name, marked in marks.items() if marked.any()}


def _texts(read: Read, cells: Cells, column: JsonColumn) -> pa.Array:
    """The values as PostgreSQL's texts, as COPY writes them."""
    buffer = read.listings.tokens.messages.buffer
    present = cells.kinds >= BARE
    values = Values(cells.starts, cells.ends, None if present.all() else present, None)
    texts = as_text(buffer, values, column.name)
    bare = cells.kinds == BARE
    if column.type_oid == _BOOL:
        return _booleans(texts, column.name)
    if bare.any() and not (
        column.type_oid in _NUMBERS and _BEGINS_NUMBER[byte_at(buffer, cells.starts[bare])].all()
    ):
        raise ProtocolError("a value is neither a number nor a string", detail=f"in {column.name}")
    if (cells.kinds == TEXT).any():
        texts = unescaped(texts, column.name)
    if column.type_oid == _BYTEA:
        return pc.binary_join_element_wise("\\x", texts, "")
    return texts


def _booleans(texts: pa.Array, name: str) -> pa.Array:
    true = pc.equal(texts, "true")
    if not pc.all(pc.or_(true, pc.equal(texts, "false")), min_count=0).as_py():
        raise ProtocolError("a boolean is neither true nor false", detail=f"in {name}")
    return pc.if_else(true, "t", "f")


def joined(
    blocks: Sequence[Block], before: Relation, transactions: Transactions
) -> Iterator[Changes]:
    """All rows of a table in the order of the log, one Changes for each stretch of one shape.

    Args:
        before: its shape until now.
    """
    if not blocks:
        return
    shapes = list(dict.fromkeys([before, *(b.relation for b in blocks if b.relation is not None)]))
    codes = {shape: code for code, shape in enumerate(shapes)}
    places = np.concatenate([block.places for block in blocks])
    code = np.concatenate(
        [
            np.full(len(block.places), -1 if block.relation is None else codes[block.relation])
            for block in blocks
        ]
    )
    order = np.argsort(places, kind="stable")
    code = _carried(code[order], codes[before])
    says_all = all(block.unsaid is None for block in blocks if block.relation is not None)
    bounds = np.flatnonzero(np.diff(code, prepend=-2, append=-2))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        relation = shapes[int(code[start])]
        rows = _rows(blocks, relation, order[start:end], transactions, says_all=says_all)
        yield Changes(relation, rows)


def _carried(codes: Integers, before: int) -> Integers:
    """A truncate (-1) has the shape of the row before it."""
    last = np.maximum.accumulate(np.where(codes >= 0, np.arange(len(codes)), -1))
    return np.where(last >= 0, codes[np.maximum(last, 0)], before)


def _rows(
    blocks: Sequence[Block],
    relation: Relation,
    which: Integers,
    transactions: Transactions,
    *,
    says_all: bool,
) -> pa.RecordBatch:
    """The rows with these numbers, counted over all blocks; those of another shape are not among them."""
    places = np.concatenate([block.places for block in blocks])[which]
    messages, second = places // 2, places % 2
    of = transactions.of[messages]
    names = [c.name for c in relation.columns if not c.name.startswith(RESERVED)]
    arrays = [
        pa.array(transactions.final_lsns[of]),
        pa.array(transactions.sequence(messages) + second),
        pa.array(transactions.xids[of]),
        _picked([block.ops for block in blocks], which),
        pa.array(np.concatenate([block.whole for block in blocks])[which]),
        names_of(_spread(blocks, [block.unchanged for block in blocks], which), len(which)),
    ]
    if not says_all:
        marks = _spread(blocks, [block.unsaid or {} for block in blocks], which)
        arrays.append(names_of(marks, len(which)))
    for name in names:
        parts = [
            block.columns[name]
            if block.relation == relation
            else pa.nulls(len(block.places), pa.string())
            for block in blocks
        ]
        arrays.append(_picked(parts, which))
    unsaid = () if says_all else (UNSAID,)
    return pa.RecordBatch.from_arrays(arrays, [*SYSTEM_COLUMNS, *unsaid, *names])


def _picked(parts: Sequence[pa.Array], which: Integers) -> pa.Array:
    found = pa.concat_arrays(parts) if len(parts) > 1 else parts[0]
    if len(which) == len(found) and np.array_equal(which, np.arange(len(found))):
        return found
    return found.take(pa.array(which))


def _spread(
    blocks: Sequence[Block], marked: Sequence[Mapping[str, Mask]], which: Integers
) -> dict[str, Mask]:
    """The marks of these rows by column, over all blocks."""
    names = dict.fromkeys(name for marks in marked for name in marks)
    found = {
        name: np.concatenate(
            [
                marks.get(name, np.zeros(len(block.places), dtype=np.bool_))
                for block, marks in zip(blocks, marked, strict=True)
            ]
        )[which]
        for name in names
    }
    return {name: marks for name, marks in found.items() if marks.any()}
