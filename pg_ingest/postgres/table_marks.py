"""What an ALTER TABLE leaves behind in the catalogue, for all followed tables in one question.

The log has no word of an ALTER TABLE, and one that computes values anew (`ALTER COLUMN n TYPE int USING
n * 100`) may leave names and types as they were. But it gives the table another file, and writes the rows of
pg_attribute anew whose columns it alters, by which these get another `xmin`. VACUUM FULL, CLUSTER, TRUNCATE and
SET TABLESPACE give another file too, and write no row of pg_attribute. So both together tell an ALTER that may
have changed values from what only moves rows, and each of them alone is harmless. An `xmin` stays as it is
when the row is frozen (since 9.4).

Generated columns stand apart: they are not in the log, so there it does not matter what becomes of them. One
that is generated no more (DROP EXPRESSION) is told by its number: it is not above those that were there before.

`relfilenode` and not `pg_relation_filenode`, which is asked outside of the query's snapshot: file and columns
must be of one moment.

Source: `ATRewriteTable`, `ATExecAlterColumnType` and `finish_heap_swap` in src/backend/commands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from pg_ingest.postgres.session import Session

_MARKS = """
SELECT c.oid::int8, c.relfilenode::int8,
  string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum) FILTER (WHERE NOT {computed}),
  string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum) FILTER (WHERE {computed})
FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_attribute AS a
  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.oid = ANY(%s::oid[]) GROUP BY c.oid, c.relfilenode
"""

_GENERATED_SINCE = 120000


@dataclass(frozen=True, slots=True)
class TableMarks:
    """One table at a moment.

    Attributes:
        file: 0 for a partitioned table.
        attributes: another text after an ALTER of a column that is not generated.
        computed: another text after an ALTER of one that is.
    """

    file: int
    attributes: str
    computed: str


def marks_of(session: Session, oids: Collection[int]) -> dict[int, TableMarks]:
    """By oid, those of these tables that exist, as they are now in any transaction."""
    computed = "a.attgenerated <> ''" if session.server_version >= _GENERATED_SINCE else "false"
    what = "looking for altered tables"
    found = session.rows(_MARKS.format(computed=computed), [list(oids)], what=what) if oids else []
    return {oid: TableMarks(file, *map(_digest, listed)) for oid, file, *listed in found}


def _digest(listed: str | None) -> str:
    return hashlib.sha256((listed or "").encode()).hexdigest()[:32]
