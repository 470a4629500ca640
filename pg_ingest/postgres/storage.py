"""Whether a relation's rows were taken away under a snapshot.

TRUNCATE, and an ALTER TABLE that rewrites the table, do not keep old row versions: a snapshot that is older
than such a change, but whose statement first comes to the table after it, sees an empty table
(https://www.postgresql.org/docs/current/mvcc-caveats.html). `BEGIN; TRUNCATE; INSERT …; COMMIT`, harmless
for everyone else, would so look like the loss of all rows. Both give the relation another file. A statement
that has come to the table holds a lock until its transaction ends, under which no file can change, so
comparing the files from before the snapshot with those after the statement finds every such case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pg_ingest.postgres.session import Session
from pg_ingest.table import RelationKind, Table

_FILES = """
WITH RECURSIVE tree(oid) AS (
  SELECT %s::oid
  UNION ALL
  SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree AS t ON i.inhparent = t.oid WHERE %s
)
SELECT oid::int8, pg_catalog.pg_relation_filenode(oid)::int8 FROM tree
"""


def files_of(session: Session, table: Table) -> Mapping[int, int | None]:
    """The file of the relation, and of each partition, by oid: what they are now, in any transaction."""
    partitioned = table.kind is RelationKind.PARTITIONED
    return dict(session.rows(_FILES, [table.oid, partitioned], what=f"looking at {table.id}"))


_FILES_SEEN = """
WITH RECURSIVE tree(oid) AS (
  SELECT %s::oid
  UNION ALL
  SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN tree AS t ON i.inhparent = t.oid WHERE %s
)
SELECT t.oid::int8, nullif(c.relfilenode, 0)::int8
FROM tree AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
"""


def files_seen(session: Session, table: Table) -> Mapping[int, int | None]:
    """As `files_of`, but what they were for the snapshot that the session is in, however old it is."""
    partitioned = table.kind is RelationKind.PARTITIONED
    what = f"looking at {table.id}"
    return dict(session.rows(_FILES_SEEN, [table.oid, partitioned], what=what))


def digest(files: Mapping[int, int | None]) -> str:
    """The same text for the same files: short enough for a bookmark."""
    listed = ",".join(f"{oid}:{file}" for oid, file in sorted(files.items()))
    return hashlib.sha256(listed.encode()).hexdigest()[:32]
