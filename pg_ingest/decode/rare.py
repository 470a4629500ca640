"""The messages that come once per table, statement or transaction at most: read one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pg_ingest.decode.messages import (
    LogicalMessage,
    Messages,
    Origin,
    Relation,
    RelationColumn,
    TypeName,
)
from pg_ingest.decode.wire import Cursor, broken
from pg_ingest.lsn import Lsn
from pg_ingest.table import ReplicaIdentity, TableId

RARE = b"ORYTM"
_IDENTITIES = {
    ord("d"): ReplicaIdentity.DEFAULT,
    ord("n"): ReplicaIdentity.NOTHING,
    ord("f"): ReplicaIdentity.FULL,
    ord("i"): ReplicaIdentity.INDEX,
}
_IDENTITY_COLUMN = 1
_CASCADE, _RESTART_IDENTITY = 1, 2


@dataclass(frozen=True, slots=True)
class Truncation:
    """A Truncate message, its tables still as oids."""

    index: int
    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Rare:
    """All of a piece, in order; `relations` with the number of their message."""

    relations: list[tuple[int, Relation]] = field(default_factory=list)
    truncations: list[Truncation] = field(default_factory=list)
    messages: list[LogicalMessage] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    types: list[TypeName] = field(default_factory=list)


def read_rare(messages: Messages, indexes: list[int]) -> Rare:
    """Read the messages with these numbers, whose tags must be among RARE."""
    rare = Rare()
    for index in indexes:
        start = int(messages.starts[index])
        data = messages.buffer[start : start + int(messages.lengths[index])].tobytes()
        cursor = Cursor(data, index)
        match data[:1]:
            case b"R":
                rare.relations.append((index, _relation(cursor)))
            case b"T":
                rare.truncations.append(_truncation(cursor))
            case b"O":
                rare.origins.append(Origin(Lsn(cursor.number("Q")), cursor.string()))
            case b"Y":
                rare.types.append(TypeName(cursor.number("I"), cursor.string(), cursor.string()))
            case _:
                rare.messages.append(_message(cursor))
        cursor.finish()
    return rare


def _relation(cursor: Cursor) -> Relation:
    oid = cursor.number("I")
    # "Namespace (empty string for pg_catalog)"
    table = TableId(cursor.string() or "pg_catalog", cursor.string())
    identity = _IDENTITIES.get(cursor.number("B"))
    if identity is None:
        raise broken("unknown replica identity", index=cursor.index, position=cursor.position - 1)
    columns = tuple(_column(cursor) for _ in range(cursor.number("H")))
    return Relation(oid, table, identity, columns)


def _column(cursor: Cursor) -> RelationColumn:
    flags = cursor.number("B")
    return RelationColumn(
        name=cursor.string(),
        type_oid=cursor.number("I"),
        modifier=cursor.number("i"),
        identity=bool(flags & _IDENTITY_COLUMN),
    )


def _truncation(cursor: Cursor) -> Truncation:
    count = cursor.number("I")
    flags = cursor.number("B")
    oids = np.frombuffer(cursor.take(4 * count), dtype=">u4").tolist()
    return Truncation(
        cursor.index, tuple(oids), bool(flags & _CASCADE), bool(flags & _RESTART_IDENTITY)
    )


def _message(cursor: Cursor) -> LogicalMessage:
    transactional = bool(cursor.number("B") & 1)
    lsn = Lsn(cursor.number("Q"))
    prefix = cursor.string()
    return LogicalMessage(lsn, transactional, prefix, cursor.take(cursor.number("I")))
