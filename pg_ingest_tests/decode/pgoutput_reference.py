"""A second decoder of pgoutput, as slow and as plain as the manual reads: one message, one value at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Field:
    data: bytes
    at: int = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def byte(self) -> str:
        return chr(self.number("B"))

    def bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def string(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text


@dataclass
class Reference:
    """Collects, for each shape of each table, its rows as dictionaries."""

    shapes: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    rows: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    commits: int = 0
    end_lsn: int | None = None
    others: list[tuple[Any, ...]] = field(default_factory=list)

    def read(self, message: bytes) -> None:
        self.message = Field(message)
        getattr(self, "on_" + self.message.byte())()
        assert self.message.at == len(message)

    def on_B(self) -> None:
        self.lsn, _, self.xid = (self.message.number(form) for form in "QqI")
        self.sequence = 0

    def on_C(self) -> None:
        _, _, self.end_lsn, _ = (self.message.number(form) for form in "BQQq")
        self.commits += 1

    def on_R(self) -> None:
        oid, schema, table = self.message.number("I"), self.message.string(), self.message.string()
        identity = self.message.byte()
        columns = []
        for _ in range(self.message.number("H")):
            flags, name = self.message.number("B"), self.message.string()
            columns.append((name, self.message.number("I"), self.message.number("i"), flags == 1))
        self.shapes[oid] = (oid, schema, table, identity, tuple(columns))

    def on_Y(self) -> None:
        oid, schema = self.message.number("I"), self.message.string()
        self.others.append(("Y", oid, schema, self.message.string()))

    def on_O(self) -> None:
        lsn = self.message.number("Q")
        self.others.append(("O", lsn, self.message.string()))

    def on_M(self) -> None:
        flags, lsn, prefix = (
            self.message.number("B"),
            self.message.number("Q"),
            self.message.string(),
        )
        content = self.message.bytes(self.message.number("I"))
        self.others.append(("M", flags == 1, lsn, prefix, content))

    def on_T(self) -> None:
        count, flags = self.message.number("I"), self.message.number("B")
        oids = [self.message.number("I") for _ in range(count)]
        names = tuple(".".join(self.shapes[oid][1:3]) for oid in oids)
        self.others.append(("T", self.lsn, names, bool(flags & 1), bool(flags & 2)))
        for oid in oids:
            columns = self.shapes[oid][4]
            self.add(oid, "t", True, dict.fromkeys((c[0] for c in columns), None), None)
        self.sequence += 1

    def on_I(self) -> None:
        oid = self.message.number("I")
        assert self.message.byte() == "N"
        self.tuple(oid, "i", True)

    def on_U(self) -> None:
        oid = self.message.number("I")
        kind = self.message.byte()
        if kind in "KO":
            self.tuple(oid, "b", kind == "O")
            assert self.message.byte() == "N"
        self.tuple(oid, "u", True)

    def on_D(self) -> None:
        oid = self.message.number("I")
        self.tuple(oid, "d", self.message.byte() == "O")

    def tuple(self, oid: int, op: str, whole: bool) -> None:
        columns = self.shapes[oid][4]
        assert self.message.number("H") == len(columns)
        values: dict[str, str | None] = {}
        unchanged = []
        for name, *_ in columns:
            match self.message.byte():
                case "n":
                    values[name] = None
                case "u":
                    values[name] = None
                    unchanged.append(name)
                case "t":
                    values[name] = self.message.bytes(self.message.number("I")).decode()
                case other:
                    raise AssertionError(other)
        self.add(oid, op, whole, values, unchanged or None)
        self.sequence += 1

    def add(
        self,
        oid: int,
        op: str,
        whole: bool,
        values: dict[str, str | None],
        unchanged: list[str] | None,
    ) -> None:
        head = {
            "_pgi_lsn": self.lsn,
            "_pgi_sequence": self.sequence,
            "_pgi_xid": self.xid,
            "_pgi_op": op,
            "_pgi_whole": whole,
            "_pgi_unchanged": unchanged,
        }
        self.rows.append((self.shapes[oid], head | values))


def read_all(messages: list[bytes]) -> Reference:
    reference = Reference()
    for message in messages:
        reference.read(message)
    return reference
