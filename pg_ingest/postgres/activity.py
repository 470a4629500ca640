"""What the server's statistics say about how tables are written to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId

FEW_DELETES = 0.001
"""Deleted rows for one that was inserted: up to there next to nothing is deleted."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Rows written since the statistics were reset; partitions summed into their root."""

    inserted: int
    updated: int
    deleted: int

    @property
    def deletes(self) -> bool:
        """More than next to nothing was deleted, or nobody can say."""
        return not self.inserted or self.deleted > FEW_DELETES * self.inserted


_ACTIVITY = """
WITH RECURSIVE tree(root, oid) AS (
  SELECT o, o FROM unnest(%s::oid[]) AS o
  UNION ALL
  SELECT t.root, i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhparent AND c.relkind = 'p'
)
SELECT t.root::int8, sum(s.n_tup_ins)::int8, sum(s.n_tup_upd)::int8, sum(s.n_tup_del)::int8
FROM tree AS t JOIN pg_catalog.pg_stat_all_tables AS s ON s.relid = t.oid
GROUP BY t.root
"""


def read_activity(session: Session, tables: Collection[Table]) -> dict[TableId, Activity]:
    """By table, asked in one query; relations without statistics (views) are missing.

    Source: manual, "The Cumulative Statistics System"; every role may read these columns.
    """
    by_oid = {table.oid: table.id for table in tables}
    rows = session.rows(_ACTIVITY, (list(by_oid),), what="looking at the statistics of tables")
    return {by_oid[oid]: Activity(*counts) for oid, *counts in rows}
