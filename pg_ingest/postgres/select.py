"""SELECT statements over one relation, built from names and texts that are quoted, never pasted.

A row filter is the user's own text. It stands on lines of its own between parentheses, so that a comment
at its end cannot swallow what follows, and `Session.explain` lets the server say whether it is one
expression before any row is read (see there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from psycopg import sql

from pg_ingest.table import Column, RelationKind, Table, TableId

Operator = Literal["=", "<", "<=", ">", ">=", "is null", "is not null"]


class Condition(Protocol):
    """Which rows: a part of a WHERE clause."""

    def predicate(self) -> sql.Composable:
        """It as SQL."""
        ...


@dataclass(frozen=True, slots=True)
class Bound:
    """`column op 'value'::type`.

    Attributes:
        column: unquoted column name.
        op: one of Operator; for `is null` and `is not null` value and type are not used.
        value: PostgreSQL's text of the value.
        cast_type: the type as SQL (`format_type`'s text of the column, `PgType.display`).
    """

    column: str
    op: Operator
    value: str = ""
    cast_type: str = ""

    def predicate(self) -> sql.Composable:
        """This bound as SQL."""
        column = sql.Identifier(self.column)
        if self.op in ("is null", "is not null"):
            return sql.SQL("{} {}").format(column, sql.SQL(self.op))
        return sql.SQL("{} {} {}::{}").format(
            column, sql.SQL(self.op), sql.Literal(self.value), sql.SQL(self.cast_type)
        )


@dataclass(frozen=True, slots=True)
class SelectQuery:
    """A SELECT over one relation.

    Attributes:
        table: the relation, for messages.
        statement: the whole SELECT.
        columns: the columns it returns, in order.
        where: the user's row filter, if there is one, and
        where_check: a SELECT that is valid only if `where` is one boolean expression over the relation.
    """

    table: TableId
    statement: sql.Composable
    columns: tuple[Column, ...]
    where: str | None = None
    where_check: sql.Composable | None = None

    @property
    def text(self) -> str:
        """The SELECT as text, for people."""
        return self.statement.as_string(None)


def relation(table: Table) -> sql.Composable:
    """The relation in a FROM clause: only its own rows, but a partitioned table's from its partitions."""
    name = sql.Identifier(table.id.schema, table.id.name)
    return sql.SQL("ONLY {}").format(name) if table.kind is RelationKind.TABLE else name


def select_rows(
    table: Table,
    columns: Sequence[Column],
    *,
    where: str | None = None,
    bounds: Sequence[Condition] = (),
    order_by: Sequence[str] = (),
) -> SelectQuery:
    """The rows of `table` that pass the row filter and all bounds, in the order of `order_by`'s columns."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    parts: list[sql.Composable] = [sql.SQL("SELECT {} FROM {}").format(names, relation(table))]
    conditions = [bound.predicate() for bound in bounds]
    if where is not None:
        conditions.append(sql.SQL("(\n{}\n)").format(verbatim(where)))
    if conditions:
        parts.append(sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions)))
    if order_by:
        order = sql.SQL(", ").join(sql.Identifier(name) for name in order_by)
        parts.append(sql.SQL("ORDER BY {}").format(order))
    return SelectQuery(
        table.id,
        sql.SQL(" ").join(parts),
        tuple(columns),
        where,
        _where_check(table, where) if where is not None else None,
    )


def _where_check(table: Table, where: str) -> sql.Composable:
    """No parentheses around the text here: `a) OR (b` is refused, which the real SELECT would take."""
    return sql.SQL("SELECT CASE WHEN\n{}\nTHEN 1 END FROM {}").format(
        verbatim(where), relation(table)
    )


class _Verbatim(sql.Composable):
    """A text that goes into the statement as it is; the server checks it (`Session.explain`)."""

    def as_bytes(self, context: object = None) -> bytes:
        return str(self._obj).encode()


def verbatim(text: str) -> sql.Composable:
    """The user's own text as a part of a statement; only after the server has checked it."""
    return _Verbatim(text)
