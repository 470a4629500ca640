"""A row filter asked of rows that are not in a table: those that the log told us.

Only the server knows what its expression means: collations, casts, operators of extensions, three-valued logic.
So it is asked again, with the very text of the configuration, over the values that it sent itself
(`sent_rows.py`), and the answers return as one text of `0` and `1`. Nothing is written and no table is read.
Only the columns that the filter names travel.

The filter sees columns by their names alone, in a row that is called otherwise than the table. So a text that
names the table (`orders.status`, or the row as a whole), a system column, or a column that is not replicated is
refused by the server before anything is captured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from psycopg import sql

from pg_ingest.errors import QueryRefused, SourceTableChanged
from pg_ingest.postgres.filter_words import reasons_against, words_of
from pg_ingest.postgres.select import relation, select_rows, verbatim
from pg_ingest.postgres.sent_rows import arrays_of, in_requests, read_collations, sent_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table, TableId

_ASK = """SELECT string_agg(CASE WHEN (
{where}
) THEN '1' ELSE '0' END, '' ORDER BY _pgi_place) FROM (
{rows}
) AS _pgi_row"""


def check_row_filter(session: Session, table: Table, columns: Sequence[Column], where: str) -> None:
    """Raise QueryRefused unless the filter is one condition that also holds in the log.

    Args:
        columns: those that are replicated.
    """
    session.explain(select_rows(table, columns, where=where))
    for reason in reasons_against(session, where):
        raise QueryRefused(
            f"the row filter (`where`) of {table.id} cannot hold in the log",
            detail=reason,
            hint="with log_based a filter may depend on the row alone: compare its columns with fixed"
            " values; filter by time or by other tables in the destination",
        )
    plan = RowFilter(session, table.id, where, table.oid, columns).plan
    for text in words_of(where).moving:
        if text.strip("eE'") not in plan:
            raise QueryRefused(
                f"the row filter (`where`) of {table.id} cannot hold in the log",
                detail=f"{text} is another date or time each time it is read",
                hint="write the date itself",
            )


def same_filter(session: Session, table: Table, ours: str, theirs: str) -> bool:
    """Whether the server understands both texts as the same condition; False for any other wording.

    Raises QueryRefused when one of them is no condition over the table.
    """
    plans = []
    for text in (ours, theirs):
        asked = sql.SQL("EXPLAIN (VERBOSE, COSTS OFF) SELECT CASE WHEN (\n{}\n) THEN 1 END FROM {}")
        statement = asked.format(verbatim(text), relation(table))
        plans.append(session.rows(statement, what=f"comparing the row filters of {table.id}"))
    return plans[0] == plans[1]


class RowFilter:
    """The filter of one table while it has one shape, asked over a session of its database.

    Attributes:
        needed: the columns that it names, perhaps with a few more.
    """

    def __init__(
        self, session: Session, table: TableId, where: str, oid: int, columns: Sequence[Column]
    ) -> None:
        """`oid`: the table's; `columns`: all that are replicated.

        Raises QueryRefused when the filter needs anything else.
        """
        self._session = session
        self._table = table
        self._where = where
        self._collations = read_collations(session, oid, table)
        self.plan = self._plan(columns)
        named = tuple(c for c in columns if c.name.casefold() in where.casefold())
        self.needed = named or tuple(columns[:1])
        if not self._valid(self.needed):
            self.needed = tuple(columns)

    def passing(self, rows: pl.DataFrame) -> pl.Series:
        """For each row whether it passes; its columns are texts as PostgreSQL prints them."""
        answers = [""]
        for part in in_requests(rows.select([column.name for column in self.needed])):
            statement = self._statement(self.needed, arrays_of(part, self.needed))
            ((answer,),) = self._session.rows(statement, what=f"filtering changes of {self._table}")
            answers.append(answer)
        flags = np.frombuffer("".join(answers).encode(), dtype=np.uint8)
        return pl.Series(flags == ord("1"))

    def _plan(self, columns: Sequence[Column]) -> str:
        """How the server would ask these columns; raises QueryRefused when it would not."""
        statement = self._statement(columns, ["{}"] * len(columns))
        asked = sql.SQL("EXPLAIN (VERBOSE, COSTS OFF) {}").format(statement)
        try:
            rows = self._session.rows(asked, what=f"the row filter (`where`) of {self._table}")
        except (QueryRefused, SourceTableChanged) as error:
            raise QueryRefused(
                f"the row filter (`where`) of {self._table} cannot hold in the log",
                detail=error.detail,
                hint="with log_based a filter names replicated columns, without the table's name before"
                " them, and nothing else: no generated, excluded or system column",
            ) from None
        return "\n".join(line for (line,) in rows)

    def _valid(self, columns: Sequence[Column]) -> bool:
        try:
            self._plan(columns)
        except QueryRefused:
            return False
        return True

    def _statement(self, columns: Sequence[Column], arrays: Sequence[str]) -> sql.Composable:
        names = [column.name for column in columns]
        rows = sent_rows(columns, arrays, self._collations, names)
        return sql.SQL(_ASK).format(where=verbatim(self._where), rows=rows)
