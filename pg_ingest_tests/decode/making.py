"""Columns of built-in types, and decoding them the three ways text may come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pg_ingest.decode.values import Decoded, decode_column
from pg_ingest.table import Column, PgType, TypeKind

TEXT_LAYOUTS = (pa.string(), pa.large_string(), pa.string_view())


def pg_type(name: str, modifier: int = -1, **changed: Any) -> PgType:
    given = {"oid": 0, "schema": "pg_catalog", "kind": TypeKind.BASE, "display": name, **changed}
    return PgType(name=name, modifier=modifier, **given)


def array_of(element: PgType) -> PgType:
    return pg_type(f"_{element.name}", kind=TypeKind.ARRAY, element=element)


def numeric(precision: int, scale: int) -> PgType:
    return pg_type("numeric", ((precision << 16) | (scale & 0x7FF)) + 4)


def column(of: PgType | str, name: str = "c", **changed: Any) -> Column:
    return Column(name, 1, pg_type(of) if isinstance(of, str) else of, **changed)


def decode(texts: Sequence[str | None], of: PgType | str) -> Decoded:
    """The texts decoded, after making sure that it does not matter how they are laid out."""
    first, *others = (decode_column(pa.array(texts, kind), column(of)) for kind in TEXT_LAYOUTS)
    first.values.validate(full=not pa.types.is_time(first.values.type))  # 24:00:00 is one more
    for other in others:
        assert other.values.equals(first.values) or "NaN" in texts
        assert other.problems == first.problems
    return first


def ticks(values: pa.Array) -> list[int | None]:
    """Dates, times and timestamps as the integers they are."""
    integer = pa.int32() if pa.types.is_date32(values.type) else pa.int64()
    return values.cast(integer).to_pylist()


def reasons(decoded: Decoded) -> list[str | None]:
    assert decoded.problems is not None
    return decoded.problems.to_pylist()
