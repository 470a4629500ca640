"""Places in the order of a key: one order that the server and the destination agree on, found quickly.

The order of a column's values is one of two. *Values* as they are, for numbers, times and uuids, which
everybody orders alike. Or *texts* by their bytes, for whatever stands in the destination as the text
PostgreSQL prints: never by a collation, which differs from machine to machine. Where a text stands in that
order matters to nobody, only that both sides say the same.

`width_bucket(value, bounds)` finds a value's place among thousands of bounds by binary search, but only for
types of a fixed width; for texts it would walk through all bounds. So texts are looked up as `name`, which
has 64 bytes and C's order. It cuts a text after 63 bytes at most, between two characters; a bound has 60 at
most, so a text and what is left of it lie on the same side of every bound. In a database that is not UTF-8
bounds are ASCII: there bytes up to the first other character compare as in UTF-8, and other characters are
greater than ASCII in every encoding.

Several columns become one number. For each column, a value's code says which bound's value it equals or between
which two it lies (even and odd numbers). Codes put together in the order of the columns compare as the columns
do, and the bounds' own codes are the array that is searched.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql

from pg_ingest.decode.types import numeric_precision, rule_for
from pg_ingest.postgres.select import SelectQuery
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table, TypeKind

Values = tuple[str, ...]
"""A bound: the text of a value for each column of the order."""

MOST_COLUMNS = 3
"""More codes of 50,000 bounds each would not fit into 64 bits."""

_BOUND_CHARACTERS = 15
"""At most 60 bytes of UTF-8."""

_BY_VALUE = frozenset(
    {"bool", "int2", "int4", "int8", "oid", "date", "time", "timestamp", "timestamptz", "uuid"}
)
_INT8_DIGITS = 18
_PLAIN_TEXTS = frozenset({"text", "varchar", "name"})
_GREATEST_INT8 = "9223372036854775807"


@dataclass(frozen=True, slots=True)
class OrderedColumn:
    """A column of the key in the order that both sides have.

    Attributes:
        as_text: ordered by the bytes of its text, else by its value.
        ascii_bounds: its bounds must be ASCII.
    """

    column: Column
    as_text: bool
    ascii_bounds: bool = False

    @property
    def kind(self) -> str:
        """The type of fixed width that its values are looked up in."""
        if self.as_text:
            return "name"
        return "int8" if self.column.type.name == "numeric" else self.column.type.name

    def place_value(self) -> sql.Composable:
        """The value as `kind`."""
        if self.as_text:
            return sql.SQL('({} COLLATE "C")::name').format(self._text())
        value = self.compared()
        if self.column.type.name == "numeric":
            template = sql.SQL("(CASE WHEN {} = 'NaN' THEN {}::int8 ELSE {}::int8 END)")
            return template.format(value, sql.Literal(_GREATEST_INT8), value)
        return value

    def compared(self) -> sql.Composable:
        """The value to compare with a bound; an index on the column may serve."""
        if self.as_text:
            return sql.SQL('{} COLLATE "C"').format(self._text())
        name = sql.Identifier(self.column.name)
        return sql.SQL("{}::pg_catalog.{}").format(name, sql.Identifier(self.column.type.name))

    def bound(self, text: str) -> sql.Composable:
        """A bound to compare `compared` with."""
        kind = "text" if self.as_text else self.column.type.name
        return sql.SQL("{}::pg_catalog.{}").format(sql.Literal(text), sql.Identifier(kind))

    def cut(self, value: sql.Composable) -> sql.Composable:
        """A `kind` value as the text of a bound that is not above it."""
        if not self.as_text:
            return value
        short = sql.SQL("left({}::text, {})").format(value, sql.Literal(_BOUND_CHARACTERS))
        if self.ascii_bounds:
            short = sql.SQL("substring({} COLLATE \"C\" from '^[ -~]*')").format(short)
        return sql.SQL('({} COLLATE "C")::name').format(short)

    def _text(self) -> sql.Composable:
        name = sql.Identifier(self.column.name)
        if self.column.type.name in _PLAIN_TEXTS and self.column.type.schema == "pg_catalog":
            return sql.SQL("{}::text").format(name)
        return sql.SQL("format('%s', {})").format(name)


def ordered_column(column: Column, *, utf8: bool) -> OrderedColumn | None:
    """The column in the common order, None where its type has none."""
    kind = column.type
    plain = kind.kind is TypeKind.BASE and kind.schema == "pg_catalog"
    if plain and kind.name in _BY_VALUE:
        return OrderedColumn(column, as_text=False)
    if plain and kind.name == "numeric" and (bounds := numeric_precision(kind.modifier)):
        precision, scale = bounds
        if scale == 0 and precision <= _INT8_DIGITS:
            return OrderedColumn(column, as_text=False)
    rule = rule_for(kind)
    text = pa.types.is_string(rule.arrow) and rule.logical is None
    if text or pa.types.is_decimal(rule.arrow):
        return OrderedColumn(column, as_text=True, ascii_bounds=not utf8)
    return None


@dataclass(frozen=True, slots=True)
class Cuts:
    """Bounds in ascending order, and the rank of each value among those of its column."""

    values: tuple[Values, ...] = ()
    ranks: tuple[tuple[int, ...], ...] = ()

    def chosen(self, indexes: Sequence[int]) -> Cuts:
        """Some of the bounds, in ascending order of their indexes."""
        return Cuts(
            tuple(self.values[index] for index in indexes),
            tuple(self.ranks[index] for index in indexes),
        )


def place(
    order: Sequence[OrderedColumn], cuts: Cuts, values: Sequence[sql.Composable] = ()
) -> sql.Composable:
    """How many of the bounds are not above a row's key, as SQL: an int4; NULL for a key that is NULL.

    Args:
        values: what to look up instead of the columns, as their `kind`.
    """
    given = values or [each.place_value() for each in order]
    if not cuts.values:
        return sql.SQL("0")
    if len(order) == 1:
        bounds = _array([value for (value,) in cuts.values], order[0].kind)
        return sql.SQL("width_bucket({}, {})").format(given[0], bounds)
    parts = [_code(each, cuts, number, given[number]) for number, each in enumerate(order)]
    sizes = [size for _, size, _ in parts]
    number = _joined_code([code for code, _, _ in parts], sizes)
    codes = [
        str(_number([codes[index] for _, _, codes in parts], sizes))
        for index in range(len(cuts.values))
    ]
    return sql.SQL("width_bucket({}, {})").format(number, _array(codes, "int8"))


def _code(
    column: OrderedColumn, cuts: Cuts, number: int, value: sql.Composable
) -> tuple[sql.Composable, int, list[int]]:
    """A value's code as SQL, above all codes, and the bounds' codes."""
    pairs = zip(cuts.values, cuts.ranks, strict=True)
    by_rank = {ranks[number]: values[number] for values, ranks in pairs}
    dense = {rank: position for position, rank in enumerate(sorted(by_rank), start=1)}
    array = _array([by_rank[rank] for rank in sorted(by_rank)], column.kind)
    below = sql.SQL("width_bucket({}, {})").format(value, array)
    template = sql.SQL("(2 * {} + CASE WHEN {} = ({})[{}] THEN 0 ELSE 1 END)::int8")
    code = template.format(below, value, array, below)
    return code, 2 * len(dense) + 2, [2 * dense[ranks[number]] for ranks in cuts.ranks]


def _joined_code(codes: Sequence[sql.Composable], sizes: Sequence[int]) -> sql.Composable:
    joined = codes[0]
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        joined = sql.SQL("({} * {} + {})").format(joined, sql.Literal(size), code)
    return joined


def _number(codes: Sequence[int], sizes: Sequence[int]) -> int:
    joined = codes[0]
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        joined = joined * size + code
    return joined


def _array(texts: Sequence[str], kind: str) -> sql.Composable:
    """A constant array, read when the statement is parsed and not for each row."""
    quoted = ",".join('"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"' for t in texts)
    return sql.SQL("{}::pg_catalog.{}[]").format(
        sql.Literal("{" + quoted + "}"), sql.Identifier(kind)
    )


@dataclass(frozen=True, slots=True)
class InRanges:
    """The rows whose key lies in some ranges, as a condition.

    Attributes:
        cuts: bounds; ranges begin at the first, third, … and end before the second, fourth, …
        open_start: there is one more range below the first bound, and the others change places.
        far: the widest gaps between ranges, as indexes of bounds: the condition is also written out for what
            lies between them, so that an index may serve.
    """

    order: tuple[OrderedColumn, ...]
    cuts: Cuts
    open_start: bool
    far: tuple[int, ...] = ()

    def predicate(self) -> sql.Composable:
        """It as SQL."""
        if not self.cuts.values:
            return sql.SQL("true" if self.open_start else "false")
        odd = sql.SQL("{} % 2 = {}").format(
            place(self.order, self.cuts), sql.SQL("0" if self.open_start else "1")
        )
        pieces = [self._between(first, last) for first, last in self._pieces()]
        return sql.SQL("({}) AND {}").format(sql.SQL(" OR ").join(pieces), odd)

    def _pieces(self) -> Iterator[tuple[int | None, int | None]]:
        """First and last bound of what lies between two wide gaps; None where it has no end."""
        first: int | None = None if self.open_start else 0
        for end in sorted(self.far):
            yield first, end
            first = end + 1
        closed = (len(self.cuts.values) % 2 == 0) != self.open_start
        yield first, len(self.cuts.values) - 1 if closed else None

    def _between(self, first: int | None, last: int | None) -> sql.Composable:
        key = _row([each.compared() for each in self.order])
        sides = [
            sql.SQL("{} {} {}").format(key, sql.SQL(operator), self._bound(index))
            for index, operator in ((first, ">="), (last, "<"))
            if index is not None
        ]
        return sql.SQL("({})").format(sql.SQL(" AND ").join(sides)) if sides else sql.SQL("true")

    def _bound(self, index: int) -> sql.Composable:
        values = self.cuts.values[index]
        return _row([each.bound(text) for each, text in zip(self.order, values, strict=True)])


def _row(parts: Sequence[sql.Composable]) -> sql.Composable:
    if len(parts) == 1:
        return parts[0]
    return sql.SQL("ROW({})").format(sql.SQL(", ").join(parts))


_RANKS = """
SELECT n, {ranks} FROM unnest({arrays}) WITH ORDINALITY AS b({names}, n) ORDER BY {names}
"""


def in_order(
    session: Session, table: Table, order: Sequence[OrderedColumn], bounds: Collection[Values]
) -> Cuts:
    """The bounds in the server's order, each once."""
    if not bounds:
        return Cuts()
    listed = list(dict.fromkeys(bounds))
    names = [sql.Identifier(f"v{number}") for number in range(len(order))]
    rank = sql.SQL("dense_rank() OVER (ORDER BY {})")
    arrays = [
        _array([values[number] for values in listed], each.kind)
        for number, each in enumerate(order)
    ]
    statement = sql.SQL(_RANKS).format(
        ranks=sql.SQL(", ").join(rank.format(name) for name in names),
        arrays=sql.SQL(", ").join(arrays),
        names=sql.SQL(", ").join(names),
    )
    found = [[int(text) for text in row] for row in copied(session, table, statement)]
    values = tuple(listed[number - 1] for number, *_ in found)
    return Cuts(values, tuple(tuple(ranks) for _, *ranks in found))


def copied(session: Session, table: Table, statement: sql.Composable) -> list[list[str]]:
    """A result of one row a range, by way of COPY, so that it has the time a long read has."""
    with session.copy(SelectQuery(table.id, statement, ())) as stream:
        parts = []
        while part := stream.read(1 << 20):
            parts.append(bytes(part))
    return list(csv.reader(io.StringIO(b"".join(parts).decode(), newline="")))
