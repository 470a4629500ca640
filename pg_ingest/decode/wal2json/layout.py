"""Which columns a table's messages list, and which of them may be missing from one.

A message lists the columns that the table had at that moment, in the order of their numbers (`attnum`), but
leaves out a value that is stored out of line and did not change. So it does not say by itself whether a
column that is not listed was left out or did not exist. The rule here:

- An insert lists every column: what is not listed is not there.
- An update is compared with the newest layout known. What it lacks of that was left out.
- A whole old row (REPLICA IDENTITY FULL) lists every column too.
- What it has beyond that (a new column, another name or type for a number) makes a new layout: the known one
  with these columns put in by their numbers. It starts a new shape of the table at this very change.

Why that is enough: a value can only be left out after it was written, and it was written by a change that
listed it, or before the table was followed; so the column is in a layout that is known already (`State`
carries it on, and begins with the catalogue's). And a column that was dropped without a word in between is
taken for one whose value did not change: it stays as it was, which is what becomes of a dropped column.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pg_ingest.decode.messages import JsonColumn, Layout
from pg_ingest.decode.wire import broken


class Unclear(Exception):
    """The messages do not tell enough about a relation: it must be read anew."""


_TOO_OLD = "wal2json 2.5 or newer writes them; older versions cannot be used"


def learn(data: bytes, index: int, known: Layout | None, live: Collection[int]) -> Layout:
    """The layout that a message of an insert, update or delete shows, on top of the one before.

    Args:
        data: the message, number `index` of its piece.
        live: the positions of the columns that the relation has now.

    Raises ProtocolError when it is not such a message, and Unclear when a name has moved on to another column
    while a column that is known by it is left out: nothing says what that one is called now.
    """
    try:
        message = json.loads(data)
    except ValueError as error:
        at = getattr(error, "pos", getattr(error, "start", 0))
        raise broken("a message is not JSON", index=index, position=int(at)) from error
    listed = _objects(message, "columns", index)
    identity = _objects(message, "identity", index)
    before = () if known is None else known.columns
    if message.get("action") == "I":
        columns = tuple(_column(each, index) for each in listed)
        return Layout(columns, () if known is None else _renamed(known, columns))
    told = {_text(each, "name", index): _oid(each, index) for each in identity}
    own = [_column(each, index) for each in listed]
    if known is not None and known.whole and told.keys() >= {column.name for column in own}:
        before = _still_whole(before, own, told, live)
    by_position = {column.position: column for column in (*before, *own)}
    columns = tuple(by_position[position] for position in sorted(by_position))
    names = {column.name: column.type_oid for column in columns}
    if len(names) != len(columns) or not told.items() <= names.items():
        raise Unclear(f"message {index} of this piece gives a column's name to another one")
    return Layout(columns, tuple(told))


def _still_whole(
    before: Sequence[JsonColumn],
    own: Sequence[JsonColumn],
    told: Mapping[str, int],
    live: Collection[int],
) -> tuple[JsonColumn, ...]:
    """Without the columns that a whole old row does not have any more; raises Unclear for one that is there."""
    if not own and [column.type_oid for column in before] == list(told.values()):
        pairs = zip(before, told, strict=True)  # both in the order of positions: renamed at most
        return tuple(JsonColumn(each.position, name, each.type_oid) for each, name in pairs)
    shown = {column.position for column in own}
    missing = [c for c in before if c.name not in told and c.position not in shown]
    if any(column.position in live for column in missing):
        raise Unclear("a column that the relation has is not in a row of REPLICA IDENTITY FULL")
    return tuple(column for column in before if column not in missing)


def _renamed(known: Layout, columns: Sequence[JsonColumn]) -> tuple[str, ...]:
    """The identity by the names that its columns have now; a whole row stays one."""
    if known.whole:
        return tuple(column.name for column in columns)
    names = {column.position: column.name for column in columns}
    identity = frozenset(known.identity)
    positions = [column.position for column in known.columns if column.name in identity]
    return tuple(names[position] for position in positions if position in names)


def _objects(message: Any, key: str, index: int) -> list[Mapping[str, Any]]:
    found = message.get(key, []) if isinstance(message, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise broken(f"`{key}` is not a list of columns", index=index, position=0)
    return found


def _column(listed: Mapping[str, Any], index: int) -> JsonColumn:
    position = listed.get("position")
    if not isinstance(position, int):
        raise broken("a column has no position", index=index, position=0)
    return JsonColumn(position, _text(listed, "name", index), _oid(listed, index))


def _text(listed: Mapping[str, Any], key: str, index: int) -> str:
    found = listed.get(key)
    if not isinstance(found, str):
        raise broken(f"a column has no {key}", index=index, position=0)
    return found


def _oid(listed: Mapping[str, Any], index: int) -> int:
    found = listed.get("typeoid")
    if not isinstance(found, int):
        error = broken("a column does not tell its type", index=index, position=0)
        error.hint = _TOO_OLD
        raise error
    return found & 0xFFFFFFFF  # written as a signed number


def opening(column: JsonColumn) -> bytes:
    """What stands before the column's value."""
    # the server's escape_json and Python write names alike, as long as they need not be ASCII
    name = json.dumps(column.name, ensure_ascii=False)
    oid = column.type_oid - (1 << 32) if column.type_oid >> 31 else column.type_oid
    return f'{{"name":{name},"typeoid":{oid},"value":'.encode()
