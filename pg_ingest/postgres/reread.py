"""Some values of some rows as they are now, found by key.

For values that the log could not tell. Keys go to the server as texts and become the columns' types there, a
few megabytes at a time, and the answers come back as one text for each column: no row passes through Python.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from psycopg import sql

from pg_ingest.errors import SourceTableChanged
from pg_ingest.postgres.row_filter import COLLATIONS, arrays_of, bounded, collate
from pg_ingest.postgres.select import relation
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table

THERE = "_pgi_there"

_ASK = """SELECT string_agg(CASE WHEN t.tableoid IS NULL THEN '0' ELSE '1' END, '' ORDER BY _pgi_place){answers}
FROM (SELECT _pgi_place{keys} FROM unnest({values}) WITH ORDINALITY AS _pgi_sent ({names}, _pgi_place)) AS k
LEFT JOIN {relation} AS t ON {same}"""


def reread(
    session: Session,
    table: Table,
    key: Sequence[Column],
    columns: Sequence[Column],
    keys: pl.DataFrame,
) -> pl.DataFrame:
    """The rows with these keys now, in this order.

    Args:
        table: as it is now; `key` and `columns` are columns of it.
        columns: whose texts hold no comma and are never empty (numbers).
        keys: texts without nulls, by the names of `key`, each key once.

    Returns `_pgi_there` (bool), and the columns' texts (null for NULL and where the row is not there).
    Raises SourceTableChanged when a key is that of several rows.
    """
    found = session.rows(COLLATIONS, (table.oid,), what=f"looking at the collations of {table.id}")
    collations = {name: (schema, collation) for name, schema, collation in found}
    frames = [_answer(session, table, key, columns, part, collations) for part in bounded(keys)]
    empty = pl.DataFrame(schema={THERE: pl.Boolean, **{c.name: pl.String for c in columns}})
    return pl.concat([empty, *frames])


def _answer(
    session: Session,
    table: Table,
    key: Sequence[Column],
    columns: Sequence[Column],
    part: pl.DataFrame,
    collations: dict[str, tuple[str, str]],
) -> pl.DataFrame:
    names = [sql.Identifier(f"k{number}") for number in range(len(key))]
    pairs = list(zip(names, key, strict=True))
    answers = [
        sql.SQL(", string_agg(coalesce(t.{}::text, ''), ',' ORDER BY _pgi_place)").format(
            sql.Identifier(column.name)
        )
        for column in columns
    ]
    typed = [
        sql.SQL(", {}::{}{} AS {}").format(
            name, sql.SQL(column.type.display), collate(collations.get(column.name)), name
        )
        for name, column in pairs
    ]
    same = [
        sql.SQL("t.{} = k.{}{}").format(
            sql.Identifier(column.name), name, collate(collations.get(column.name))
        )
        for name, column in pairs
    ]
    statement = sql.SQL(_ASK).format(
        answers=sql.SQL("").join(answers),
        keys=sql.SQL("").join(typed),
        values=sql.SQL(", ").join(
            sql.SQL("{}::text[]").format(sql.Literal(array)) for array in arrays_of(part, key)
        ),
        names=sql.SQL(", ").join(names),
        relation=relation(table),
        same=sql.SQL(" AND ").join(same),
    )
    ((there, *texts),) = session.rows(statement, what=f"reading rows of {table.id} again")
    if len(there) != len(part):
        raise SourceTableChanged(
            f"a key of {table.id} is that of several rows",
            detail=f"rows are told apart by ({', '.join(column.name for column in key)})",
            hint="declare a key that is unique",
        )
    values = [
        pl.Series(column.name, [text]).str.split(",").explode().replace("", None)
        for column, text in zip(columns, texts, strict=True)
    ]
    return pl.DataFrame([pl.Series(THERE, [there]).str.split("").explode() == "1", *values])
