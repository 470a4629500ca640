"""Where the rows of a relation come from, as far as that changes when they can be seen."""

from __future__ import annotations

from pg_ingest.postgres.session import Session
from pg_ingest.table import Table

_DETACHED = """
WITH RECURSIVE origin(oid) AS (
  SELECT %s::oid
  UNION
  SELECT below.oid FROM origin AS o CROSS JOIN LATERAL (
    SELECT d.refobjid FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d
      ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
      WHERE r.ev_class = o.oid
    UNION ALL
    SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = o.oid
  ) AS below(oid)
)
SELECT c.oid::regclass::text FROM pg_catalog.pg_class AS c JOIN origin AS o ON o.oid = c.oid
WHERE c.relkind IN ('m', 'f') ORDER BY 1
"""


def detached_origins(session: Session, table: Table) -> tuple[str, ...]:
    """The materialized views and foreign tables in which the relation's rows stand, itself included.

    Their rows do not appear when the transaction commits that wrote them, but with a refresh, or when
    another server says so. Views are followed down to their tables, partitioned tables to their partitions.
    """
    found = session.rows(_DETACHED, [table.oid], what=f"looking at the origin of {table.id}")
    return tuple(name for (name,) in found)
