"""What rows hold in a column that was added without rewriting them.

Source: `atthasmissing` and `attmissingval` in https://www.postgresql.org/docs/current/catalog-pg-attribute.html
(from version 11; before, a default always rewrote the table). Where a table is partitioned its partitions hold
the values: the root has no rows, and a partition that is younger than the column has none from before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pg_ingest.postgres.session import Session

_MISSING = """
WITH RECURSIVE tree(oid) AS (
  SELECT %s::oid
  UNION ALL
  SELECT c.oid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT DISTINCT w.attnum::int, (a.attmissingval::text::text[])[1]
FROM pg_catalog.pg_attribute AS w
  JOIN pg_catalog.pg_attribute AS a ON a.attname = w.attname AND a.atthasmissing AND NOT a.attisdropped
  JOIN tree ON tree.oid = a.attrelid
WHERE w.attrelid = %s::oid AND w.attnum = ANY(%s::int2[]) AND NOT w.attisdropped
"""


def missing_values(
    session: Session, relation_oid: int, attnums: Sequence[int]
) -> Mapping[int, Sequence[str]]:
    """attnum → the text of the value that rows from before the column have; absent where it is NULL.

    Several where the partitions of the table differ.
    """
    if not attnums or session.server_version < 110000:
        return {}
    what = "looking up the values of added columns"
    found: dict[int, list[str]] = {}
    for attnum, text in session.rows(
        _MISSING, (relation_oid, relation_oid, list(attnums)), what=what
    ):
        found.setdefault(attnum, []).append(text)
    return found
