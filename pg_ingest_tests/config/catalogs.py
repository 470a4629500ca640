"""Catalogues in one line each."""

from __future__ import annotations

from typing import Any

from pg_ingest.table import (
    Column,
    DatabaseCatalog,
    PgType,
    RelationKind,
    SourceCatalog,
    Table,
    TableId,
    TypeKind,
)


def pg_type(name: str) -> PgType:
    """A type by its name; `_int4` is an array, `mood` an enum."""
    kind = {"_": TypeKind.ARRAY, "m": TypeKind.ENUM}.get(name[0], TypeKind.BASE)
    kind = TypeKind.BASE if name in ("money", "macaddr") else kind
    return PgType(len(name), name, "pg_catalog", kind, -1, f"the type {name}")


def relation(name: str, *columns: str, key: str = "id", **more: Any) -> Table:
    """`relation("public.orders", "at timestamptz")`: `id int8` comes first, and is the primary key."""
    pairs = [text.split(" ") for text in ("id int8", *columns)]
    found = tuple(Column(column, n, pg_type(kind)) for n, (column, kind) in enumerate(pairs, 1))
    return Table(
        id=TableId.parse(name),
        oid=1,
        kind=more.pop("kind", RelationKind.TABLE),
        columns=found,
        primary_key=tuple(key.split()) if key else (),
        **more,
    )


def catalog(*tables: Table, **databases: list[Table]) -> SourceCatalog:
    """The tables in the database `shop`, or per database."""
    found = databases or {"shop": list(tables)}
    entries = tuple(DatabaseCatalog(name, 180000, tuple(held)) for name, held in found.items())
    return SourceCatalog("shop", "2026-01-01T00:00:00+00:00", entries)
