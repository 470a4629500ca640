"""Messages of the `pgoutput` plugin, protocol version 1, to Arrow columns.

Begin, Commit, Insert, Update and Delete, of which there are millions, are only ever handled as whole
columns. Relation, Type, Origin, Truncate and Message are few and are read one by one.

Why this is right: the server sends whole transactions in commit order, each between a Begin and a
Commit, so a running count of Begins tells each change its transaction. A Relation message holds for
all later changes of that table until the next one, so the number of Relation messages for a table
before a change tells its shape. A piece may end anywhere between two messages; `State` carries the
open transaction and the known relations over.

Facts: manual, "Logical Replication Message Formats"; src/backend/replication/logical/proto.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from pg_ingest.decode.messages import (
    RESERVED,
    SYSTEM_COLUMNS,
    Bytes,
    Changes,
    Decoded,
    Integers,
    Messages,
    State,
    Truncate,
)
from pg_ingest.decode.rare import RARE, Rare, read_rare
from pg_ingest.decode.rows import Rows, ops_of, row_count, rows_of, values_of
from pg_ingest.decode.shapes import Shapes
from pg_ingest.decode.transactions import Transactions, follow
from pg_ingest.decode.wire import broken, gather
from pg_ingest.lsn import Lsn

_COMMIT = ord("C")
_COMMIT_LSN_AT, _END_LSN_AT = 2, 10
_KNOWN = np.isin(np.arange(256), np.frombuffer(b"BCIUD" + RARE, dtype=np.uint8))
_IS_RARE = np.isin(np.arange(256), np.frombuffer(RARE, dtype=np.uint8))


def decode(messages: Messages, state: State) -> Decoded:
    """Decode the next piece of a log; raise ProtocolError for anything the protocol does not allow.

    Memory: about 40 bytes for each value of the piece on top of the piece itself.
    """
    tags = _tags(messages)
    rare = read_rare(messages, np.flatnonzero(_IS_RARE[tags]).tolist())
    rows = rows_of(messages, tags, rare.truncations)
    transactions = follow(messages, tags, row_count(len(messages), rows), state.transaction)
    commits = np.flatnonzero(tags == _COMMIT)
    shapes = Shapes.of(rare.relations, state.relations)
    return Decoded(
        changes=tuple(_changes(messages, rows, transactions, shapes)),
        state=State(MappingProxyType(shapes.newest()), transactions.open),
        truncates=tuple(_truncates(rare, transactions, shapes)),
        messages=tuple(rare.messages),
        origins=tuple(rare.origins),
        types=tuple(rare.types),
        commits=len(commits),
        commit_lsn=_lsn(messages, commits, _COMMIT_LSN_AT),
        end_lsn=_lsn(messages, commits, _END_LSN_AT),
    )


def _tags(messages: Messages) -> Bytes:
    empty = messages.lengths < 1
    if empty.any():
        raise broken("a message is empty", index=int(np.argmax(empty)), position=0)
    tags: Bytes = messages.buffer[messages.starts]
    unknown = ~_KNOWN[tags]
    if unknown.any():
        first = int(np.argmax(unknown))
        raise broken(f"unknown message {chr(tags[first])!r}", index=first, position=0)
    return tags


def _changes(
    messages: Messages, rows: Rows, transactions: Transactions, shapes: Shapes
) -> Iterator[Changes]:
    codes = shapes.codes(rows.indexes, rows.oids)
    for code in np.unique(codes).tolist():
        which = codes == code
        own = rows if which.all() else rows.pick(which)
        of = transactions.of[own.indexes]
        relation = shapes.relations[code]
        columns = [
            pa.array(transactions.final_lsns[of]),
            pa.array(transactions.sequence(own.indexes) + own.second),
            pa.array(transactions.xids[of]),
            ops_of(own),
            pa.array(own.whole),
            *values_of(messages, own, relation),
        ]
        listed = (c.name for c in relation.columns if not c.name.startswith(RESERVED))
        names = [*SYSTEM_COLUMNS, *listed]
        yield Changes(relation, pa.RecordBatch.from_arrays(columns, names))


def _truncates(rare: Rare, transactions: Transactions, shapes: Shapes) -> Iterator[Truncate]:
    for truncation in rare.truncations:
        indexes = np.full(len(truncation.oids), truncation.index, dtype=np.int64)
        codes = shapes.codes(indexes, np.array(truncation.oids, dtype=np.int64))
        yield Truncate(
            Lsn(int(transactions.final_lsns[transactions.of[truncation.index]])),
            tuple(shapes.relations[code].id for code in codes.tolist()),
            truncation.cascade,
            truncation.restart_identity,
        )


def _lsn(messages: Messages, commits: Integers, offset: int) -> Lsn | None:
    if not len(commits):
        return None
    (number,) = gather(messages.buffer, messages.starts[commits[-1:]] + offset, ">u8").tolist()
    return Lsn(number)
