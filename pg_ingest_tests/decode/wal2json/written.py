"""Messages as wal2json writes them, made one by one in plain Python, and the rows they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pg_ingest.decode.messages import (
    UNKNOWN_MODIFIER,
    Decoded,
    JsonColumn,
    Layout,
    Messages,
    Relation,
    RelationColumn,
    State,
)
from pg_ingest.decode.wal2json.blocks import Listed
from pg_ingest.decode.wal2json.decode import decode
from pg_ingest.lsn import Lsn
from pg_ingest.table import ReplicaIdentity, TableId

Values = Mapping[str, str | None]
"""By column the value's text as PostgreSQL prints it, None for NULL."""

_BARE = {16, 20, 21, 23, 26, 700, 701, 1700}


@dataclass
class Written:
    """A relation, and what is written about it.

    Attributes:
        columns: (position, name, type oid).
        identity: names, all of them for REPLICA IDENTITY FULL.
    """

    name: TableId
    columns: Sequence[tuple[int, str, int]]
    identity: Sequence[str]
    oid: int = 100
    root: int = 100
    root_id: TableId | None = None
    generated: frozenset[int] = frozenset()
    order: tuple[str, ...] = ()

    def listed(self) -> Listed:
        order = tuple(name for number, name, _ in self.columns if number not in self.generated)
        return Listed(
            oid=self.oid,
            root=self.root,
            id=self.root_id or self.name,
            order=self.order or order,
            generated=self.generated,
            live=frozenset(number for number, _, _ in self.columns),
            identity=ReplicaIdentity.DEFAULT,
        )

    def layout(self) -> Layout:
        return Layout(tuple(JsonColumn(*each) for each in self.columns), tuple(self.identity))

    def relation(self) -> Relation:
        columns = tuple(
            RelationColumn(name, oid, UNKNOWN_MODIFIER, name in self.identity)
            for number, name, oid in self.columns
            if number not in self.generated
        )
        return Relation(self.root, self.root_id or self.name, ReplicaIdentity.DEFAULT, columns)

    def change(
        self, action: str, new: Values | None, old: Values | None, *, lsn: str = "0/1"
    ) -> bytes:
        """`new` may lack columns; `old` is the identity as it is printed."""
        parts = [f'"action":"{action}","xid":7,"lsn":"{lsn}"']
        parts.append(f'"schema":{_text(self.name.schema)},"table":{_text(self.name.name)}')
        if new is not None:
            listed = [
                f'{self._column(name, oid, new[name])},"position":{number}}}'
                for number, name, oid in self.columns
                if name in new
            ]
            parts.append(f'"columns":[{",".join(listed)}]')
        if old is not None:
            told = [f"{self._column(n, oid, old[n])}}}" for _, n, oid in self.columns if n in old]
            parts.append(f'"identity":[{",".join(told)}]')
        return f"{{{','.join(parts)}}}".encode()

    def truncate(self, lsn: str = "0/1") -> bytes:
        return self.change("T", None, None, lsn=lsn)

    @staticmethod
    def _column(name: str, oid: int, value: str | None) -> str:
        signed = oid - (1 << 32) if oid >> 31 else oid
        return f'{{"name":{_text(name)},"typeoid":{signed},"value":{written(oid, value)}'


def written(oid: int, value: str | None) -> str:
    """A value in JSON."""
    if value is None or (oid in (700, 701, 1700) and value.lstrip("-") in ("NaN", "Infinity")):
        return "null"
    if oid == 16:
        return "true" if value == "t" else "false"
    if oid == 17:
        return _text(value.removeprefix("\\x"))
    return value if oid in _BARE else _text(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def begin(xid: int, lsn: int) -> bytes:
    return _end("B", xid, lsn)


def commit(xid: int, lsn: int) -> bytes:
    return _end("C", xid, lsn)


def _end(action: str, xid: int, lsn: int) -> bytes:
    text = f'"lsn":"{Lsn(lsn)}","nextlsn":"{Lsn(lsn + 48)}"'
    return f'{{"action":"{action}","xid":{xid},{text}}}'.encode()


@dataclass
class Reader:
    """Decodes pieces one after the other."""

    relations: Sequence[Written]
    says_all: bool = False
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(
            {each.root: each.relation() for each in reversed(self.relations)},
            None,
            {each.oid: each.layout() for each in self.relations},
        )

    def read(self, messages: Sequence[bytes]) -> Decoded:
        listed = {each.name: each.listed() for each in self.relations}
        decoded = decode(Messages.of(messages), self.state, listed, says_all=self.says_all)
        self.state = decoded.state
        return decoded

    def rows(self, messages: Sequence[bytes]) -> list[dict[str, Any]]:
        """All rows in the order of the log, without our own columns that are None."""
        return rows_of(self.read(messages))


def rows_of(decoded: Decoded) -> list[dict[str, Any]]:
    found = [row for changes in decoded.changes for row in changes.rows.to_pylist()]
    return sorted(found, key=lambda row: (row["_pgi_lsn"], row["_pgi_sequence"]))
