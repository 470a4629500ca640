"""Types of a database: domains resolved to what they are made of, arrays with their elements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pg_ingest.table import PgType, TypeKind

_KINDS = {
    "e": TypeKind.ENUM,
    "r": TypeKind.RANGE,
    "m": TypeKind.MULTIRANGE,
    "c": TypeKind.COMPOSITE,
}


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One row of `catalog_queries.types`."""

    oid: int
    name: str
    schema: str
    typtype: str
    base: int
    base_modifier: int
    element: int
    delimiter: str
    sql_name: str


class Types:
    """Resolves (type, modifier) pairs as columns declare them; each pair is built once."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows = {row[0]: TypeRow(*row) for row in rows}
        self._built: dict[tuple[int, int, str], PgType] = {}

    def resolve(self, oid: int, modifier: int, display: str) -> PgType:
        """The type that a column of this `atttypid`, `atttypmod` and `format_type` holds.

        A domain's own modifier counts, also for a domain over an array; an array's modifier is its
        elements' (`numeric(10,2)[]`), unless they are of a domain that brings its own.
        """
        asked = (oid, modifier, display)
        if asked not in self._built:
            self._built[asked] = self._build(*asked)
        return self._built[asked]

    def _build(self, oid: int, modifier: int, display: str) -> PgType:
        row = self._rows[oid]
        while row.typtype == "d":
            modifier, row = row.base_modifier, self._rows[row.base]
        element = None
        if row.element:
            shown = display[:-2] if display.endswith("[]") else self._rows[row.element].sql_name
            element = self.resolve(row.element, modifier, shown)
        kind = TypeKind.ARRAY if element else _KINDS.get(row.typtype, TypeKind.BASE)
        return PgType(
            oid=row.oid,
            name=row.name,
            schema=row.schema,
            kind=kind,
            modifier=modifier,
            display=display,
            element=element,
            delimiter=row.delimiter,
        )
