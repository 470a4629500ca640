"""What the server says of ranges of a key: rows and checksums, and where a large range can be cut.

Each is one statement over the relation, which the server may share among its parallel workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from pg_ingest.errors import MethodUnavailable
from pg_ingest.postgres.checksum import row_checksum
from pg_ingest.postgres.connect import settings_query
from pg_ingest.postgres.key_order import Cuts, InRanges, OrderedColumn, Values, copied, place
from pg_ingest.postgres.select import Condition, relation, verbatim
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, RelationKind, Table

_MODULUS = 1 << 64

_SAMPLED = frozenset({RelationKind.TABLE, RelationKind.PARTITIONED, RelationKind.MATERIALIZED_VIEW})


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A relation as it is looked at: what is read of it, and the order of its key.

    Attributes:
        columns: what is replicated, and so what the checksums are of.
        key: all columns of the key; `order` are the first ones, which bounds are of.
        seed: of the checksums.
    """

    session: Session
    table: Table
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    order: tuple[OrderedColumn, ...]
    where: str | None
    seed: int

    def count(self) -> int:
        """How many rows there are."""
        statement = sql.SQL("SELECT count(*) FROM {}{}").format(*self._from())
        ((rows,),) = copied(self.session, self.table, statement)
        return int(rows)

    def sums(self, cuts: Cuts, within: Condition | None = None) -> dict[int, tuple[int, int]]:
        """Rows and checksum (modulo 2^64) by place, of places that have rows, as far as they are `within`.

        Raises MethodUnavailable when a key is NULL.
        """
        nullable = [column for column in self.key if column.nullable]
        nulls = [sql.SQL("{} IS NULL").format(sql.Identifier(c.name)) for c in nullable]
        statement = sql.SQL(_SUMS).format(
            place=place(self.order, cuts),
            checksum=row_checksum(self.columns, self.seed, self.session.server_version),
            nulls=sql.SQL(" OR ").join(nulls) if nulls else sql.SQL("false"),
            rows=sql.SQL("{}{}").format(*self._from(within)),
        )
        with _hashing(self.session):
            found = copied(self.session, self.table, statement)
        missing = sum(int(null) for _, _, _, null in found)
        if missing:
            raise MethodUnavailable(
                f"{self.table.id}: the key is NULL in {missing} rows",
                detail=f"the key is ({', '.join(column.name for column in self.key)})",
                hint="declare columns that are never NULL: `key: [...]`, or take `method: full_table`",
            )
        return {int(at): (int(rows), int(total) % _MODULUS) for at, rows, total, _ in found}

    def points(
        self,
        cuts: Cuts,
        places: Collection[int],
        within: InRanges | None,
        *,
        rows: int,
        share: float,
    ) -> list[Values]:
        """Keys at which the ranges at `places` can be cut into pieces of about so many rows.

        Each is a bound that lies within its range and above the range's own.

        Args:
            share: of the pages (of the rows, where there are no pages) that are looked at, at random.
        """
        names = [sql.Identifier(f"v{number}") for number in range(len(self.order))]
        values = [
            sql.SQL("{} AS {}").format(column.place_value(), name)
            for column, name in zip(self.order, names, strict=True)
        ]
        shortened = [
            sql.SQL("{} AS {}").format(column.cut(name), name)
            for column, name in zip(self.order, names, strict=True)
        ]
        joined = sql.SQL(", ")
        statement = sql.SQL(_POINTS).format(
            values=joined.join(values),
            names=joined.join(names),
            shortened=joined.join(shortened),
            place=place(self.order, cuts),
            again=place(self.order, cuts, names),
            rows=sql.SQL("{}{}").format(*self._from(within, share)),
            places=sql.SQL("{}::int4[]").format(sql.Literal(sorted(places))),
            each=sql.Literal(max(1, round(rows * share))),
        )
        own = set(cuts.values)
        found = (tuple(values) for values in copied(self.session, self.table, statement))
        return [values for values in found if values not in own]

    def _from(
        self, within: Condition | None = None, share: float = 1.0
    ) -> tuple[sql.Composable, sql.Composable]:
        """What stands behind FROM, and the WHERE clause."""
        source = relation(self.table)
        conditions = [] if within is None else [within.predicate()]
        if self.where is not None:
            conditions.append(sql.SQL("(\n{}\n)").format(verbatim(self.where)))
        if share < 1.0 and self.table.kind in _SAMPLED:
            percent = sql.SQL(f"{100 * share:.6f}")
            source = sql.SQL("{} TABLESAMPLE SYSTEM ({})").format(source, percent)
        elif share < 1.0:
            conditions.append(sql.SQL("random() < {}").format(sql.Literal(share)))
        if not conditions:
            return source, sql.SQL("")
        return source, sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions))


_SUMS = """
SELECT {place} AS _pgi_place, count(*), sum({checksum}), count(*) FILTER (WHERE {nulls})
FROM {rows} GROUP BY 1
"""

_POINTS = """
SELECT DISTINCT {names} FROM (
  SELECT _pgi_place, {shortened} FROM (
    SELECT {names}, _pgi_place,
      row_number() OVER (PARTITION BY _pgi_place ORDER BY {names}) AS _pgi_number
    FROM (SELECT {values}, {place} AS _pgi_place FROM {rows}) AS a
    WHERE _pgi_place = ANY ({places})
  ) AS b WHERE _pgi_number % {each} = 0
) AS c WHERE {again} = _pgi_place
"""


@contextmanager
def _hashing(session: Session) -> Iterator[None]:
    """Let the planner group by hashing: it cannot know that there are few groups, and would sort all rows.

    The memory is not used, there are at most some ten thousand groups.
    """
    names = ("work_mem", "enable_sort")
    asked = "SELECT current_setting(%s), current_setting(%s)"
    (before,) = session.rows(asked, names, what="preparing a survey")
    session.rows(settings_query({"work_mem": "256MB", "enable_sort": "off"}, local=True))
    yield
    session.rows(settings_query(dict(zip(names, before, strict=True)), local=True))
