"""Tables as they stand in DuckDB: what is there, and how it follows the source's columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pg_ingest.destinations.destination import Target
from pg_ingest.destinations.duckdb import columns
from pg_ingest.destinations.duckdb.columns import SYSTEM_PREFIX, folded
from pg_ingest.destinations.duckdb.statement import Sql, identifier, literal, sql
from pg_ingest.errors import DestinationFailed


@dataclass(frozen=True, slots=True)
class Stored:
    """A table or view of the DuckDB file.

    Attributes:
        columns: name to type as DuckDB writes it (`DECIMAL(10,2)`), in order.
    """

    schema: str
    name: str
    is_view: bool
    columns: Mapping[str, str]

    @property
    def sql(self) -> Sql:
        """Its quoted name."""
        return identifier(self.schema, self.name)

    @property
    def data(self) -> dict[str, str]:
        """The columns that come from the source."""
        return {
            name: kind
            for name, kind in self.columns.items()
            if not folded(name).startswith(SYSTEM_PREFIX)
        }

    def has(self, name: str) -> bool:
        """Whether there is a column of that name, case aside."""
        return any(folded(column) == folded(name) for column in self.columns)


def find(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> Stored | None:
    """The table or view of that name, case aside, or None."""
    found = connection.execute(
        """
        SELECT schema_name, table_name, false FROM duckdb_tables()
        WHERE database_name = current_database()
            AND lower(schema_name) = lower($schema) AND lower(table_name) = lower($name)
        UNION ALL
        SELECT schema_name, view_name, true FROM duckdb_views()
        WHERE database_name = current_database()
            AND lower(schema_name) = lower($schema) AND lower(view_name) = lower($name)
        """,
        {"schema": schema, "name": name},
    ).fetchone()
    if found is None:
        return None
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = current_database() AND schema_name = ? AND table_name = ?"
        " ORDER BY column_index",
        [found[0], found[1]],
    ).fetchall()
    return Stored(found[0], found[1], found[2], dict(rows))


def describe(connection: duckdb.DuckDBPyConnection, target: Target, schema: pa.Schema) -> None:
    """Set the comments of the table and its columns where they differ from the source's."""
    table = identifier(target.schema, target.table)
    has = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE database_name = current_database()"
        " AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
        [target.schema, target.table],
    ).fetchone()
    if has is not None and has[0] != (target.comment or None):
        connection.execute(
            sql("COMMENT ON TABLE {table} IS {text}", table=table, text=_text(target.comment))
        )
    wanted = columns.comments(schema)
    rows = connection.execute(
        "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = current_database()"
        " AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
        [target.schema, target.table],
    ).fetchall()
    present = {folded(name): (name, comment) for name, comment in rows}
    for field in schema:
        if columns.is_system(field):
            continue
        name, comment = present[folded(field.name)]
        if comment != wanted.get(field.name):
            connection.execute(
                sql(
                    "COMMENT ON COLUMN {table}.{column} IS {text}",
                    table=table,
                    column=identifier(name),
                    text=_text(wanted.get(field.name)),
                )
            )


def _text(comment: str | None) -> Sql:
    return literal(comment) if comment else Sql("NULL")


def evolve(
    connection: duckdb.DuckDBPyConnection,
    table: Stored,
    staged: Stored,
    filled: Collection[str] = (),
) -> list[str]:
    """Make `table` able to take the staged rows; say what was done, one line each.

    New columns are added (NULL in old rows, but for those in `filled`, which the caller fills), types are
    widened where every old value stays what it is. Columns that the source no longer has stay. Raises
    DestinationFailed for any other change.
    """
    present = {folded(name): (name, kind) for name, kind in table.data.items()}
    refused = [
        f"{name}: {present[folded(name)][1]} here, now {kind}"
        for name, kind in staged.data.items()
        if folded(name) in present and not _fits(present[folded(name)][1], kind)
    ]
    if refused:
        raise DestinationFailed(
            f"{table.schema}.{table.name} cannot follow a change of type",
            detail="; ".join(refused),
            hint="nothing was changed; `pg-ingest reset TABLE` reloads the table with the new types",
        )
    notes = [
        note
        for name, kind in staged.data.items()
        if (note := _follow(connection, table, name, kind, present.get(folded(name)), filled))
    ]
    arriving = {folded(name) for name in staged.data}
    gone = [name for key, (name, _) in present.items() if key not in arriving]
    if gone:
        notes.append(f"no longer at the source, kept here: {', '.join(gone)}")
    return notes


def leave_out(
    connection: duckdb.DuckDBPyConnection, target: Target, schema: pa.Schema
) -> tuple[str, ...]:
    """Drop the stored columns that the configuration does not let in any more; say so.

    A column that arrives stays, whatever it is called: names that differ by case are one here.
    """
    table = find(connection, target.schema, target.table)
    arriving = {folded(name) for name in schema.names}
    unwanted = {folded(name) for name in target.left_out} - arriving
    going = [] if table is None else [name for name in table.data if folded(name) in unwanted]
    for name in going:
        connection.execute(
            sql(
                "ALTER TABLE {table} DROP COLUMN {name}",
                table=identifier(target.schema, target.table),
                name=identifier(name),
            )
        )
    return (f"left out by the configuration, dropped here: {', '.join(going)}",) if going else ()


def _follow(
    connection: duckdb.DuckDBPyConnection,
    table: Stored,
    name: str,
    kind: str,
    present: tuple[str, str] | None,
    filled: Collection[str],
) -> str:
    if present is None:
        add: Sql = sql(
            "ALTER TABLE {table} ADD COLUMN {name} {kind}",
            table=table.sql,
            name=identifier(name),
            kind=Sql(kind),
        )
        connection.execute(add)
        value = "its default" if name in filled else "NULL"
        return f"column {name} ({kind}) added, {value} in the rows that were there"
    if present[1] != kind:
        widen = sql(
            "ALTER TABLE {table} ALTER COLUMN {name} TYPE {kind}",
            table=table.sql,
            name=identifier(present[0]),
            kind=Sql(kind),
        )
        connection.execute(widen)
        return f"column {name} widened from {present[1]} to {kind}"
    return ""


_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "HUGEINT": 39}
"""Decimal digits that hold every value of the type."""

_UNSIGNED_DIGITS = {"UTINYINT": 3, "USMALLINT": 5, "UINTEGER": 10, "UBIGINT": 20}

_SAME_TEXT = {
    *_DIGITS,
    *_UNSIGNED_DIGITS,
    "BOOLEAN",
    "FLOAT",
    "DOUBLE",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "UUID",
    "JSON",
}
"""Types whose text in DuckDB is PostgreSQL's own, so that VARCHAR may take over their values."""

_DECIMAL = re.compile(r"\ADECIMAL\((\d+),(\d+)\)\Z")


def _fits(old: str, new: str) -> bool:
    """Whether every value of the old type is the same value in the new one."""
    rules: tuple[Callable[[str, str], bool], ...] = (
        lambda old, new: old == new,
        lambda old, new: new == "VARCHAR" and (old in _SAME_TEXT or bool(_DECIMAL.match(old))),
        _wider_integer,
        _wider_decimal,
        lambda old, new: (old, new) == ("FLOAT", "DOUBLE"),
        lambda old, new: (old, new) == ("DATE", "TIMESTAMP"),
        lambda old, new: new == "DOUBLE" and old in {"TINYINT", "SMALLINT", "INTEGER"},
        lambda old, new: new == "FLOAT" and old in {"TINYINT", "SMALLINT"},
    )
    return any(rule(old, new) for rule in rules)


def _wider_integer(old: str, new: str) -> bool:
    if old in _DIGITS and new in _DIGITS:
        return _DIGITS[old] <= _DIGITS[new]
    return old in _UNSIGNED_DIGITS and _UNSIGNED_DIGITS[old] < _DIGITS.get(new, 0)


def _wider_decimal(old: str, new: str) -> bool:
    wide = _DECIMAL.match(new)
    if wide is None:
        return False
    whole = int(wide[1]) - int(wide[2])
    narrow = _DECIMAL.match(old)
    if narrow is not None:
        return int(wide[2]) >= int(narrow[2]) and whole >= int(narrow[1]) - int(narrow[2])
    return whole >= {**_DIGITS, **_UNSIGNED_DIGITS}.get(old, 100)
