"""Columns as they travel (Arrow) and as they stand in DuckDB.

Most types map one to one, so DuckDB itself picks them from Arrow: date and timestamp sentinels
become `infinity`, decimals keep their precision. Two texts are more telling:

- `json` arrives marked as Arrow's JSON extension type. DuckDB then makes the column JSON *without*
  parsing it (a cast from VARCHAR would parse, and refuse what PostgreSQL's `json` allows, such as a
  lone surrogate), so every text is stored as it came.
- `uuid` is cast; PostgreSQL's form of a UUID is always valid.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from pg_ingest.batch import COMMENT, LOGICAL_TYPE, SYSTEM
from pg_ingest.destinations.duckdb.statement import Sql, identifier, joined, literal, sql
from pg_ingest.errors import DestinationFailed

SYSTEM_PREFIX = "_pgi_"
SYNCED_AT = "_pgi_synced_at"
DATABASE = "_pgi_database"
DELETED_AT = "_pgi_deleted_at"

CONTROL = ("_pgi_present", "_pgi_unchanged", "_pgi_base", "_pgi_count", "_pgi_listed")
"""Columns of a stage that say what to do with its rows and are not stored; see `batch.Changes`."""

_LOOSE = re.compile("FLOAT|DOUBLE|INTERVAL")
"""Types with values that compare as equal without being the same."""

_ARROW_JSON = {b"ARROW:extension:name": b"arrow.json", b"ARROW:extension:metadata": b""}


def folded(name: str) -> str:
    """The name as DuckDB compares it: ASCII letters lower case, all others as they are."""
    return name.encode().lower().decode()


def is_system(field: pa.Field) -> bool:
    """Whether the column is ours, not the source's."""
    return SYSTEM in (field.metadata or {})


def check_names(target: str, schema: pa.Schema) -> None:
    """Raise DestinationFailed when the columns cannot stand side by side in a DuckDB table."""
    names = [field.name for field in schema if not is_system(field)]
    if not names:
        raise DestinationFailed(
            f"{target} would have no columns",
            detail="a DuckDB table needs at least one",
            hint="exclude the table, or select at least one of its columns",
        )
    taken = [name for name in names if folded(name).startswith(SYSTEM_PREFIX)]
    if taken:
        raise DestinationFailed(
            f"{target} has a column that only this program may have: {', '.join(taken)}",
            detail=f"names that start with {SYSTEM_PREFIX} are kept for system columns",
            hint="list it under exclude_columns, or rename it at the source",
        )
    count = Counter(folded(name) for name in names)
    twins = [name for name in names if count[folded(name)] > 1]
    if twins:
        raise DestinationFailed(
            f"{target} has columns whose names differ only by case: {', '.join(twins)}",
            detail="DuckDB does not tell upper from lower case in names",
            hint="list all but one of them under exclude_columns",
        )


def wire_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns with JSON texts marked as such."""
    return pa.schema(
        [
            field.with_metadata(_ARROW_JSON if _logical(field) == b"json" else None)
            for field in schema
        ]
    )


def projection(schema: pa.Schema) -> Sql:
    """The select list that turns arriving columns into stored ones."""
    return joined(_stored(field) for field in schema)


def _stored(field: pa.Field) -> Sql:
    name = identifier(field.name)
    if _logical(field) == b"uuid":
        return sql("CAST({name} AS UUID) AS {name}", name=name)
    return name


def _logical(field: pa.Field) -> bytes | None:
    return (field.metadata or {}).get(LOGICAL_TYPE)


def comments(schema: pa.Schema) -> dict[str, str]:
    """Column name to the source's comment, only where there is one."""
    found = {
        field.name: (field.metadata or {}).get(COMMENT, b"").decode("utf-8", "replace")
        for field in schema
    }
    return {name: text for name, text in found.items() if text}


def exactly(alias: Sql, name: str, duckdb_type: str) -> tuple[Sql, ...]:
    """Expressions that are equal for two values exactly when the values are the same.

    DuckDB, like SQL, calls some values equal that are not the same: 0.0 and -0.0, one month and 30
    days. Inside arrays and structs the text form tells them apart.
    """
    column = sql("{alias}.{name}", alias=alias, name=identifier(name))
    if duckdb_type in {"FLOAT", "DOUBLE"}:
        return column, sql("signbit({column})", column=column)
    nested = duckdb_type.endswith(("]", ")"))
    if duckdb_type == "INTERVAL" or (nested and _LOOSE.search(duckdb_type)):
        return (sql("CAST({column} AS VARCHAR)", column=column),)
    return (column,)


def row_hash(alias: Sql, columns: Sequence[tuple[str, str]]) -> Sql:
    """A 64-bit hash of a row; equal for rows that are the same.

    Args:
        columns: names and DuckDB types.
    """
    parts = [part for name, kind in columns for part in exactly(alias, name, kind)]
    return sql("hash({parts})", parts=joined(parts))


def fingerprint(alias: Sql, columns: Sequence[tuple[str, str]]) -> Sql:
    """An aggregate that is the same for two sets of rows that are equal as multisets.

    The sum of the rows' hashes does not depend on their order and counts duplicates; two different
    sets meet in it with a probability of about 5e-20.
    """
    return sql("sum({hash})", hash=row_hash(alias, columns))


def timestamp(iso: str) -> Sql:
    """A TIMESTAMPTZ constant."""
    return sql("CAST({text} AS TIMESTAMPTZ)", text=literal(iso))
