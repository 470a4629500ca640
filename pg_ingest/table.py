"""What a source database holds, as plain values: types, columns, tables, catalogues."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


@dataclass(frozen=True, slots=True, order=True)
class TableId:
    """Schema and name of a relation, unquoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `schema.name` (the schema ends at the first dot); raise ValueError without a dot."""
        schema, dot, name = text.partition(".")
        if not (schema and dot and name):
            raise ValueError(f"not a table: {text!r} (expected schema.table)")
        return cls(schema, name)


class TypeKind(StrEnum):
    """`pg_type.typtype`, with arrays apart (`typelem <> 0` and `typsubscript = array_subscript_handler`)."""

    BASE = "base"
    ARRAY = "array"
    ENUM = "enum"
    RANGE = "range"
    MULTIRANGE = "multirange"
    COMPOSITE = "composite"


@dataclass(frozen=True, slots=True)
class PgType:
    """A column's type with domains already resolved to what they are made of.

    Attributes:
        oid: `pg_type.oid` of the resolved type.
        name: `pg_type.typname` of the resolved type (`int4`, `numeric`, `_text`, `mood`).
        schema: its schema (`pg_catalog` for built-in types).
        kind: see TypeKind.
        modifier: `atttypmod` (or the domain's `typtypmod`), -1 for none.
        display: `format_type` of the declared type, for people (`numeric(10,2)`, `shop.email`).
        element: the element type of an array, else None.
        delimiter: `pg_type.typdelim`: what stands between elements in the text of an array of this
            type; a comma for all types but `box` and some extensions' (PostGIS: a colon).
    """

    oid: int
    name: str
    schema: str
    kind: TypeKind
    modifier: int
    display: str
    element: PgType | None = None
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Column:
    """One live column. `attnum` identifies it across renames."""

    name: str
    attnum: int
    type: PgType
    nullable: bool = True
    generated: bool = False
    comment: str | None = None


class RelationKind(StrEnum):
    """`pg_class.relkind` of what can be replicated."""

    TABLE = "table"
    PARTITIONED = "partitioned table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"
    FOREIGN = "foreign table"


class ReplicaIdentity(StrEnum):
    """`pg_class.relreplident`."""

    DEFAULT = "default"
    NOTHING = "nothing"
    FULL = "full"
    INDEX = "index"


@dataclass(frozen=True, slots=True)
class Table:
    """One relation at a moment.

    Attributes:
        columns: live columns in attnum order.
        primary_key: column names in key order, empty without one.
        identity: REPLICA IDENTITY; `identity_columns` are its columns (those of the primary key
            for DEFAULT, of the index for INDEX, empty for FULL and NOTHING).
        partition_root: the topmost partitioned table this is a partition of, else None.
        estimated_rows, estimated_bytes: from pg_class, -1 when never analysed; partitions summed
            into their root.
        unlogged: writes no WAL, so no log-based replication.
        selectable: the connected role may read at least one column.
    """

    id: TableId
    oid: int
    kind: RelationKind
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    identity: ReplicaIdentity = ReplicaIdentity.DEFAULT
    identity_columns: tuple[str, ...] = ()
    partition_root: TableId | None = None
    estimated_rows: int = -1
    estimated_bytes: int = -1
    unlogged: bool = False
    selectable: bool = True
    comment: str | None = None

    def column(self, name: str) -> Column:
        """The column of that name; raise KeyError without one."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class MethodAdvice:
    """Which method suits a table, as far as the server could say when it was asked.

    Attributes:
        why: the reason, for people.
        impossible: the methods that cannot be had, each with what stands in its way.
        given_at: ISO 8601, UTC.
    """

    table: TableId
    recommended: str
    why: str
    impossible: tuple[tuple[str, str], ...]
    given_at: str

    def beside(self, own: str) -> str:
        """The method that the table has beside this one, for people."""
        if self.recommended == own:
            return f"{own}, as advised: {self.why}"
        others = "; ".join(f"no {method}: {reason}" for method, reason in sorted(self.impossible))
        words = f"{own}; {self.recommended} may suit it better: {self.why}"
        return f"{words} ({others})" if others else words


@dataclass(frozen=True, slots=True)
class DatabaseCatalog:
    """The relations of one database, in order of their ids.

    Attributes:
        server_version: as in 150018.
        advice: on tables that are replicated, of whichever database is the first to have them.
    """

    database: str
    server_version: int
    tables: tuple[Table, ...]
    advice: tuple[MethodAdvice, ...] = ()

    def table(self, table_id: TableId) -> Table | None:
        """The relation of that id, or None."""
        for table in self.tables:
            if table.id == table_id:
                return table
        return None


@dataclass(frozen=True, slots=True)
class SourceCatalog:
    """What discovery saw in one source; saved under `state_dir`. `captured_at` is ISO 8601, UTC."""

    source: str
    captured_at: str
    databases: tuple[DatabaseCatalog, ...]

    def database(self, name: str) -> DatabaseCatalog | None:
        """The database of that name, or None."""
        for database in self.databases:
            if database.database == name:
                return database
        return None
