"""SQL text put together from parts that know how to quote themselves, never from bare strings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString


class Sql(str):
    """SQL text that is safe to send as it stands."""

    __slots__ = ()


def sql(template: LiteralString, **parts: Sql) -> Sql:
    """Fill `{name}` places of a constant template; raise TypeError for a part that is not Sql."""
    for name, part in parts.items():
        if not isinstance(part, Sql):
            raise TypeError(f"{name} is a bare {type(part).__name__}, not SQL")
    return Sql(template.format_map(parts))


def identifier(*path: str) -> Sql:
    """A quoted name, dotted when there is more than one part."""
    return Sql(".".join('"' + part.replace('"', '""') + '"' for part in path))


def literal(text: str) -> Sql:
    """A quoted string constant, for statements that take no parameters (DDL, COMMENT ON)."""
    return Sql("'" + text.replace("'", "''") + "'")


def joined(parts: Iterable[Sql], separator: LiteralString = ", ") -> Sql:
    """The parts in a row."""
    return Sql(separator.join(parts))
