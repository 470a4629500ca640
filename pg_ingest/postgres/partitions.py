"""The partitions of a table, and what no change of a row tells about them.

Rows come and go with partitions without being written: ATTACH brings a table with the rows it has, DETACH and
DROP take them away, TRUNCATE of a partition alone is not published through the root (manual, "CREATE
PUBLICATION", `publish_via_partition_root`). So the partitions are remembered and compared: their oids, their
files, and the transaction that attached each, which tells a partition that was away for a while.

A partition that is new may have been made empty, which is what happens every day in many databases, or
attached with rows. Its rows tell: who inserts through the root after the attachment is a younger transaction,
or the same one in a later command. A row of which that cannot be said was there before. Ids are compared by
their `age`, which knows no wraparound; a frozen row still shows the id it had (since 9.4). `cmin` is a row's
own only while nobody has begun to delete or update it, so where `xmax` is set it is not believed.
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg import sql

from pg_ingest.bookmark import Partition
from pg_ingest.errors import PermissionMissing
from pg_ingest.postgres.session import Session
from pg_ingest.table import RelationKind, Table, TableId

_PARTITIONS = """
WITH RECURSIVE tree(oid, attached) AS (
  SELECT inhrelid, xmin FROM pg_catalog.pg_inherits WHERE inhparent = %s
  UNION ALL
  SELECT i.inhrelid, i.xmin FROM pg_catalog.pg_inherits AS i JOIN tree AS t ON i.inhparent = t.oid
)
SELECT oid::int8, coalesce(pg_catalog.pg_relation_filenode(oid), 0)::int8, attached::text::int8
FROM tree
"""

_YOUNGEST = """
WITH RECURSIVE tree(oid, age, command) AS (
  SELECT inhrelid, age(xmin), CASE WHEN xmax = '0' THEN cmin::text::int8 END
  FROM pg_catalog.pg_inherits WHERE inhparent = %s
  UNION ALL
  SELECT i.inhrelid, least(age(i.xmin), t.age),
    CASE WHEN age(i.xmin) < t.age AND i.xmax = '0' THEN i.cmin::text::int8
         WHEN age(i.xmin) > t.age THEN t.command
         WHEN age(i.xmin) = t.age AND i.xmax = '0' THEN greatest(t.command, i.cmin::text::int8) END
  FROM pg_catalog.pg_inherits AS i JOIN tree AS t ON i.inhparent = t.oid
)
SELECT n.nspname, c.relname, c.oid::int8, pg_catalog.pg_get_partition_constraintdef(c.oid),
  t.age, t.command
FROM tree AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.oid = ANY(%s)
ORDER BY 1, 2
"""

_OLDER_ROW = """
SELECT EXISTS (
  SELECT FROM {root} WHERE {constraint} AND tableoid = {partition} AND (age(xmin) > {age}
    OR (age(xmin) = {age} AND (xmax = '0' AND cmin::text::int8 > {command}) IS NOT TRUE))
)
"""


def partitions_of(session: Session, table: Table) -> tuple[Partition, ...]:
    """All partitions below a partitioned table now, in any transaction; none for other relations."""
    if table.kind is not RelationKind.PARTITIONED:
        return ()
    found = session.rows(_PARTITIONS, [table.oid], what=f"looking at the partitions of {table.id}")
    return tuple(sorted(Partition(*row) for row in found))


def with_older_rows(
    session: Session, table: Table, partitions: Collection[Partition]
) -> tuple[TableId, ...]:
    """Those of `partitions` that hold a row from before they were attached, or may.

    Reads a partition, through its root, until it finds such a row. A role that may not read the system
    columns learns nothing, so for it each of them may.
    """
    if not partitions:
        return ()
    oids = [partition.oid for partition in partitions]
    what = f"looking at the partitions of {table.id}"
    with session.snapshot():  # `age` counts from one and the same id in all of a transaction
        asked = session.rows(_YOUNGEST, [table.oid, oids], what=what)
        try:
            return tuple(
                TableId(schema, name)
                for schema, name, *facts in asked
                if session.rows(_older_row(table, *facts), what=what)[0][0]
            )
        except PermissionMissing:
            return tuple(TableId(schema, name) for schema, name, *_ in asked)


def _older_row(
    table: Table, oid: int, constraint: str | None, age: int, command: int | None
) -> sql.Composed:
    """The constraint is the server's own text; it lets the server leave the other partitions out."""
    return sql.SQL(_OLDER_ROW).format(
        root=sql.Identifier(table.id.schema, table.id.name),
        constraint=sql.SQL(constraint or "true"),
        partition=sql.Literal(oid),
        age=sql.Literal(age),
        command=sql.Literal(command),
    )
