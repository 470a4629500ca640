"""Rows that the server is asked about: their values go there as texts, and become the columns' types there.

Each column travels as one array, so that no row passes through Python, and a request holds at most about
REQUEST_BYTES. Texts, casts and collations are the server's own: it sent these values in this form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import polars as pl
from psycopg import sql

from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, TableId

REQUEST_BYTES = 4 << 20
"""Values sent at once: the server holds each of them a few times while it answers."""

Collations = Mapping[str, tuple[str, str]]
"""Schema and name of the collation of those columns that have another than the database's."""

_COLLATIONS = """
SELECT a.attname::text, n.nspname::text, c.collname::text FROM pg_attribute AS a
JOIN pg_collation AS c ON c.oid = a.attcollation JOIN pg_namespace AS n ON n.oid = c.collnamespace
WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped AND c.collname <> 'default'
"""

_SENT = """SELECT _pgi_place{columns} FROM unnest({values})
WITH ORDINALITY AS _pgi_sent ({sent}, _pgi_place)"""


def read_collations(session: Session, oid: int, table: TableId) -> Collations:
    """Those of the table's columns."""
    found = session.rows(_COLLATIONS, (oid,), what=f"looking at the collations of {table}")
    return {name: (schema, collation) for name, schema, collation in found}


def sent_rows(
    columns: Sequence[Column],
    arrays: Sequence[str],
    collations: Collations,
    names: Sequence[str],
) -> sql.Composed:
    """A SELECT of the rows: `_pgi_place`, their number, and these columns under these names.

    Args:
        arrays: as `arrays_of` writes them.
    """
    sent = [sql.Identifier(f"c{number}") for number in range(len(columns))]
    typed = [
        sql.SQL(", {}::{}{} AS {}").format(
            place,
            sql.SQL(column.type.display),
            collate(collations, column),
            sql.Identifier(name),
        )
        for place, column, name in zip(sent, columns, names, strict=True)
    ]
    values = [sql.SQL("{}::text[]").format(sql.Literal(array)) for array in arrays]
    return sql.SQL(_SENT).format(
        columns=sql.SQL("").join(typed),
        values=sql.SQL(", ").join(values),
        sent=sql.SQL(", ").join(sent),
    )


def collate(collations: Collations, column: Column) -> sql.Composable:
    """The COLLATE clause that a value of the column needs, if any."""
    collation = collations.get(column.name)
    if collation is None:
        return sql.SQL("")
    return sql.SQL(" COLLATE {}").format(sql.Identifier(*collation))


def in_requests(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """In order, pieces of about REQUEST_BYTES, of at least one row; `rows` are texts."""
    if not len(rows):
        return
    sizes = rows.select(
        pl.sum_horizontal(pl.all().str.len_bytes().fill_null(0).cast(pl.Int64) + 4)
    ).to_series()
    parts = (sizes.cum_sum() - sizes) // REQUEST_BYTES
    ends = [*(parts.diff() != 0).arg_true().to_list(), len(rows)]
    for start, end in pairwise([0, *ends]):
        yield rows.slice(start, end - start)


def arrays_of(rows: pl.DataFrame, columns: Sequence[Column]) -> list[str]:
    """Each column as the text of an array."""
    elements = [
        pl.when(value.is_null())
        .then(pl.lit("NULL"))
        .otherwise(pl.concat_str(pl.lit('"'), _escaped(value), pl.lit('"')))
        .str.join(",")
        .alias(column.name)
        for value, column in ((pl.col(column.name), column) for column in columns)
    ]
    return [f"{{{text}}}" for text in rows.select(elements).row(0)]


def _escaped(value: pl.Expr) -> pl.Expr:
    return value.str.replace_all("\\", "\\\\", literal=True).str.replace_all(
        '"', '\\"', literal=True
    )
