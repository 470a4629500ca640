"""Which tables may be in a publication.

A published table whose old rows cannot be told (no replica identity) would make the *application's*
UPDATE and DELETE fail from that moment on. So a table only joins our publication when every relation that
stores its rows has a usable identity, judged by the rules of `RelationGetReplicaIndex` and
`CheckCmdReplicaIdentity` (src/backend/executor/execReplication.c): a valid, immediate primary key or
chosen index, or FULL. Partitions are judged one by one, since they do not inherit the identity.

And partitions come later. One that is made or attached while its root is published is published at once,
and of an identity it has what it got from the partitioned table above it: the primary key. FULL and USING INDEX
are not passed on (ALTER TABLE sets `relreplident` of the one relation it names), and a deferrable key is no
identity. So no partitioned table joins our publication unless it, and each partitioned table below it, has a
primary key that is checked at once. What is in a publication already stays there as long as every partition
has an identity, so that nothing stops that works; `endangered` says what it means.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pg_ingest.errors import MethodUnavailable
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.publication import (
    EVERY_OPERATION,
    VIA_ROOT_VERSION,
    Publication,
    add_tables,
)
from pg_ingest.postgres.session import Session
from pg_ingest.table import RelationKind, Table, TableId

REFUSES_GENERATED_VERSION = 180000
"""From here on the server refuses writes that need an unpublished generated column as old value."""

_TREE = """
WITH RECURSIVE tree (root, oid) AS (
  SELECT c.oid, c.oid FROM pg_class AS c WHERE c.oid = ANY(%s::oid[])
  UNION ALL
  SELECT tree.root, i.inhrelid FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid
  JOIN pg_class AS p ON p.oid = i.inhparent AND p.relkind = 'p'
)"""

_IDENTITIES = (
    _TREE
    + """
SELECT tree.root, n.nspname::text, c.relname::text FROM tree
JOIN pg_class AS c ON c.oid = tree.oid AND c.relkind = 'r'
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relreplident <> 'f' AND NOT EXISTS (
  SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisvalid AND x.indimmediate
  AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident)
)
ORDER BY 1, 2, 3
"""
)

_KEYLESS_ROOTS = (
    _TREE
    + """
SELECT tree.root, n.nspname::text, c.relname::text FROM tree
JOIN pg_class AS c ON c.oid = tree.oid AND c.relkind = 'p'
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT EXISTS (
  SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND x.indisprimary AND x.indimmediate
)
ORDER BY 1, 2, 3
"""
)

_GENERATED = (
    _TREE
    + """
SELECT DISTINCT tree.root FROM tree
JOIN pg_class AS c ON c.oid = tree.oid AND c.relkind = 'r'
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped
WHERE c.relreplident = 'f' OR EXISTS (
  SELECT FROM pg_index AS x WHERE x.indrelid = c.oid AND a.attnum = ANY(x.indkey)
  AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident)
)
"""
)


def refusals(
    session: Session,
    tables: Collection[Table],
    operations: Collection[str] = EVERY_OPERATION,
    carried: Collection[TableId] = (),
) -> dict[TableId, MethodUnavailable]:
    """Why each of these tables must not be published with these operations; the others may.

    `carried` are published already: only what fails now is said of them, not what partitions to come will do.
    """
    found = {table.id: kind_refused(session, table, tables) for table in tables}
    refused = {table: error for table, error in found.items() if error is not None}
    if {"update", "delete"} & set(operations):
        rows = session.rows(
            _IDENTITIES, ([table.oid for table in tables],), what="looking at replica identities"
        )
        blind = {root: TableId(schema, name) for root, schema, name in reversed(rows)}
        generated = _generated_identities(session, tables)
        for table in tables:
            if table.oid in blind and table.id not in refused:
                refused[table.id] = _no_identity(table, blind[table.oid])
            elif table.oid in generated and table.id not in refused:
                refused[table.id] = _generated_identity(table)
        joining = [t for t in tables if t.id not in refused and t.id not in carried]
        refused |= _not_inherited(session, joining)
    return refused


def endangered(
    session: Session, now: Publication | None, tables: Collection[Table]
) -> Mapping[TableId, MethodUnavailable]:
    """The tables in this publication whose partitions to come will have no identity by themselves, and why."""
    if now is None or not {"update", "delete"} & now.operations:
        return {}
    return _not_inherited(session, [table for table in tables if table.id in now.tables])


def _not_inherited(session: Session, tables: Collection[Table]) -> dict[TableId, MethodUnavailable]:
    roots = {table.oid: table for table in tables if table.kind is RelationKind.PARTITIONED}
    if not roots:
        return {}
    rows = session.rows(_KEYLESS_ROOTS, (list(roots),), what="looking at keys of partitions")
    keyless = {root: TableId(schema, name) for root, schema, name in reversed(rows)}
    return {roots[o].id: _no_inheritance(session, roots[o], keyless[o]) for o in keyless}


def _no_inheritance(session: Session, table: Table, where: TableId) -> MethodUnavailable:
    part = "" if where == table.id else f" (partition {where})"
    add = add_tables(session.log.publication, [table])
    return MethodUnavailable(
        f"{table.id} is partitioned without a primary key{part}: partitions to come would have no replica"
        " identity",
        detail="partitions inherit neither REPLICA IDENTITY FULL nor USING INDEX; while the table is"
        " published, the server refuses every UPDATE and DELETE on a new partition until it is given an"
        " identity of its own",
        hint=f"add a primary key to {where}, which partitions inherit (not a deferrable one), or choose"
        " another method; where whoever makes partitions sets REPLICA IDENTITY on each at once, an"
        f" administrator may take the risk: {add};",
    )


def _generated_identities(session: Session, tables: Collection[Table]) -> frozenset[int]:
    """Tables whose identity has a generated column, which is not published by default."""
    if session.server_version < REFUSES_GENERATED_VERSION:
        return frozenset()
    oids = [table.oid for table in tables]
    rows = session.rows(_GENERATED, (oids,), what="looking at generated columns")
    return frozenset(oid for (oid,) in rows)


def _generated_identity(table: Table) -> MethodUnavailable:
    return MethodUnavailable(
        f"{table.id} has a generated column in its replica identity",
        detail="if it were published, the server would refuse every UPDATE and DELETE on it with"
        ' "Replica identity must not contain unpublished generated columns"',
        hint="use a primary key or a unique index without generated columns as its REPLICA IDENTITY, or"
        " choose another method",
    )


def _no_identity(table: Table, where: TableId) -> MethodUnavailable:
    part = "" if where == table.id else f" (partition {where})"
    name = f"{quoted(where.schema)}.{quoted(where.name)}"
    return MethodUnavailable(
        f"{table.id} has no usable replica identity{part}",
        detail="if it were published, the server would refuse every UPDATE and DELETE on it with"
        ' "cannot update table … because it does not have a replica identity and publishes updates"',
        hint=f"add a primary key, or ALTER TABLE {name} REPLICA IDENTITY FULL; or USING INDEX with a unique"
        " index over NOT NULL columns, or choose another method",
    )


def kind_refused(
    session: Session, table: Table, tables: Collection[Table], *, by_root: bool = False
) -> MethodUnavailable | None:
    """Why a table of this kind has no place in a log that carries `tables`, if it has none.

    `by_root`: whatever the version, partitions are taken for their root.
    """
    by_root = by_root or session.server_version >= VIA_ROOT_VERSION
    hint = "choose another method"
    if table.kind not in (RelationKind.TABLE, RelationKind.PARTITIONED):
        return MethodUnavailable(
            f"{table.id} is a {table.kind.value}: the log has no changes of it", hint=hint
        )
    if table.unlogged:
        return MethodUnavailable(f"{table.id} is unlogged: it writes no log", hint=hint)
    if table.id.schema in ("pg_catalog", "information_schema"):
        return MethodUnavailable(f"{table.id} is a system table, never published", hint=hint)
    if table.kind is RelationKind.PARTITIONED and not by_root:
        return MethodUnavailable(
            f"{table.id} is partitioned, which the log shows as one table only from version 13 on",
            hint="select its partitions, or choose another method",
        )
    if table.partition_root in {other.id for other in tables}:
        return MethodUnavailable(
            f"{table.id} is a partition of {table.partition_root}, which is selected too",
            detail="its changes appear in the log as those of the root",
            hint=f"exclude {table.id}",
        )
    return None
