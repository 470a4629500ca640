"""Some values of some rows as they are now, found by key.

For values that the log could not tell. Keys go to the server (`sent_rows.py`), and the answers come back as one
text for each column: no row passes through Python.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from psycopg import sql

from pg_ingest.errors import SourceTableChanged
from pg_ingest.postgres.select import relation
from pg_ingest.postgres.sent_rows import (
    Collations,
    arrays_of,
    collate,
    in_requests,
    read_collations,
    sent_rows,
)
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table

THERE = "_pgi_there"

_ASK = """SELECT string_agg(CASE WHEN t.tableoid IS NULL THEN '0' ELSE '1' END, '' ORDER BY _pgi_place){answers}
FROM ({rows}) AS k
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
    collations = read_collations(session, table.oid, table.id)
    frames = [_answer(session, table, key, columns, part, collations) for part in in_requests(keys)]
    empty = pl.DataFrame(schema={THERE: pl.Boolean, **{c.name: pl.String for c in columns}})
    return pl.concat([empty, *frames])


def _answer(
    session: Session,
    table: Table,
    key: Sequence[Column],
    columns: Sequence[Column],
    part: pl.DataFrame,
    collations: Collations,
) -> pl.DataFrame:
    statement = _statement(table, key, columns, part, collations)
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


def _statement(
    table: Table,
    key: Sequence[Column],
    columns: Sequence[Column],
    part: pl.DataFrame,
    collations: Collations,
) -> sql.Composed:
    names = [f"k{number}" for number in range(len(key))]
    answers = [
        sql.SQL(", string_agg(coalesce(t.{}::text, ''), ',' ORDER BY _pgi_place)").format(
            sql.Identifier(column.name)
        )
        for column in columns
    ]
    same = [
        sql.SQL("t.{} = k.{}{}").format(
            sql.Identifier(column.name), sql.Identifier(name), collate(collations, column)
        )
        for name, column in zip(names, key, strict=True)
    ]
    return sql.SQL(_ASK).format(
        answers=sql.SQL("").join(answers),
        rows=sent_rows(key, arrays_of(part, key), collations, names),
        relation=relation(table),
        same=sql.SQL(" AND ").join(same),
    )
