"""A publication: what the log says about which tables.

Ours carries a comment that says so and is kept in step with the selection; any other is used as it is.

A published table whose old rows cannot be told (no replica identity) would make the *application's*
UPDATE and DELETE fail from that moment on. So a table only joins ours when every relation that stores its
rows has a usable identity, judged by the rules of `RelationGetReplicaIndex` and
`CheckCmdReplicaIdentity` (src/backend/executor/execReplication.c): a valid, immediate primary key or
chosen index, or FULL. Partitions are judged one by one, since they do not inherit the identity.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from pg_ingest.errors import (
    MethodUnavailable,
    PermissionMissing,
    SlotUnusable,
)
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.session import Session
from pg_ingest.table import RelationKind, Table, TableId

OURS = "pg_ingest keeps the tables of this publication in step with its configuration"
"""The comment on a publication that we made."""

VIA_ROOT_VERSION = 130000
"""Partitioned tables can be published, as one table, from here on."""

REFUSES_GENERATED_VERSION = 180000
"""From here on the server refuses writes that need an unpublished generated column as old value."""

EVERY_OPERATION = frozenset({"insert", "update", "delete", "truncate"})


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as it is now.

    Attributes:
        operations: of `insert`, `update`, `delete`, `truncate`, those it carries.
        via_root: changes of partitions appear as those of their root.
        ours: we made it and may alter it.
        tables: what it publishes, partitions as themselves unless `via_root`.
    """

    name: str
    all_tables: bool
    operations: frozenset[str]
    via_root: bool
    ours: bool
    tables: frozenset[TableId]

    @property
    def missing_operations(self) -> tuple[str, ...]:
        """What it leaves out, so that it does not reach the destination."""
        return tuple(sorted(EVERY_OPERATION - self.operations))


def read_publication(session: Session, name: str) -> Publication | None:
    """The publication of that name, or None."""
    found = session.rows(
        "SELECT to_jsonb(p), obj_description(p.oid, 'pg_publication') FROM pg_publication AS p"
        " WHERE pubname = %s",
        (name,),
        what=f"looking at publication {name}",
    )
    if not found:
        return None
    ((row, comment),) = found
    tables = session.rows(
        "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = %s",
        (name,),
        what=f"looking at publication {name}",
    )
    return Publication(
        name=name,
        all_tables=row["puballtables"],
        operations=frozenset(o for o in EVERY_OPERATION if row.get(f"pub{o}", False)),
        via_root=row.get("pubviaroot", False),
        ours=comment == OURS,
        tables=frozenset(TableId(*table) for table in tables),
    )


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is published of a table: these columns, and the rows that pass `filter`.

    `filter` is as the server prints it, None for no filter.
    """

    columns: frozenset[str]
    filter: str | None


def read_narrowed(session: Session, name: str) -> dict[TableId, Narrowed]:
    """The tables with what is published of them; empty before version 15, where it is always everything."""
    if session.server_version < 150000:
        return {}
    found = session.rows(
        "SELECT schemaname::text, tablename::text, attnames::text[], rowfilter"
        " FROM pg_publication_tables WHERE pubname = %s",
        (name,),
        what=f"looking at publication {name}",
    )
    return {TableId(s, t): Narrowed(frozenset(c), f) for s, t, c, f in found}


def keep_publication(session: Session, name: str, tables: Collection[Table]) -> Publication:
    """Make sure that the publication carries these tables, and return it as it is then.

    It is created when it does not exist. Ours gains and loses tables; somebody else's must have them.
    Every table must have passed `refusals`. Raises SlotUnusable when somebody else's publication
    lacks a table, PermissionMissing when we may not make or alter it.
    """
    now = read_publication(session, name)
    statements = _statements(session, name, now, tables)
    if statements:
        _alter(session, name, statements)
        now = read_publication(session, name)
    if now is None:
        raise SlotUnusable(f"publication {name} vanished directly after it was created")
    _check_complete(now, tables)
    return now


def _statements(
    session: Session, name: str, now: Publication | None, tables: Collection[Table]
) -> list[sql.Composable]:
    wanted = {table.id for table in tables}
    publication = sql.Identifier(name)
    if now is None:
        return _create(session, publication, wanted)
    if not now.ours or now.all_tables:
        return []
    changes: list[sql.Composable] = []
    for action, which in (("ADD", wanted - now.tables), ("DROP", now.tables - wanted)):
        if which:
            changes.append(
                sql.SQL("ALTER PUBLICATION {} {} TABLE {}").format(
                    publication, sql.SQL(action), _list(which)
                )
            )
    return changes


def publication_options(server_version: int) -> LiteralString:
    """What stands after WITH: the default depends on the version, via_root decides how partitions speak."""
    if server_version >= VIA_ROOT_VERSION:
        return "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
    return "publish = 'insert, update, delete, truncate'"


def _create(
    session: Session, publication: sql.Identifier, wanted: Collection[TableId]
) -> list[sql.Composable]:
    options = publication_options(session.server_version)
    tables = sql.SQL("FOR TABLE {} ").format(_list(wanted)) if wanted else sql.SQL("")
    return [
        sql.SQL("CREATE PUBLICATION {} {}WITH ({})").format(publication, tables, sql.SQL(options)),
        sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(publication, sql.Literal(OURS)),
    ]


def create_publication(name: str, tables: Collection[Table], server_version: int) -> str:
    """The statement that publishes these tables as we would, for somebody who may run it."""
    options = publication_options(server_version)
    return (
        sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH ({})")
        .format(sql.Identifier(name), _list({table.id for table in tables}), sql.SQL(options))
        .as_string(None)
    )


def add_tables(name: str, tables: Collection[Table]) -> str:
    """The statement that adds tables to a publication, for somebody who may run it."""
    return (
        sql.SQL("ALTER PUBLICATION {} ADD TABLE {}")
        .format(sql.Identifier(name), _list({table.id for table in tables}))
        .as_string(None)
    )


def _list(tables: Collection[TableId]) -> sql.Composed:
    """Each without the tables that inherit from it, which are tables of their own."""
    return sql.SQL(", ").join(
        sql.SQL("ONLY {}").format(sql.Identifier(table.schema, table.name))
        for table in sorted(tables)
    )


def _alter(session: Session, name: str, statements: Sequence[sql.Composable]) -> None:
    try:
        session.change(statements, what=f"keeping publication {name}")
    except PermissionMissing as error:
        script = "; ".join(statement.as_string(None) for statement in statements)
        raise PermissionMissing(
            error.message,
            detail=error.detail,
            hint=f"only the owner of the tables (with CREATE on the database) may publish them; let them"
            f" run once: {script};",
        ) from None


def _check_complete(now: Publication, tables: Collection[Table]) -> None:
    missing = sorted(str(table.id) for table in tables if table.id not in now.tables)
    if missing:
        raise SlotUnusable(
            f"publication {now.name} does not carry {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else ""),
            detail="it was not made by us, so we do not alter it"
            + ("" if now.via_root else "; it publishes partitions, not their roots"),
            hint=f"ALTER PUBLICATION {quoted(now.name)} ADD TABLE …, or name another in `log.publication`",
        )


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
    session: Session, tables: Collection[Table], operations: Collection[str] = EVERY_OPERATION
) -> dict[TableId, MethodUnavailable]:
    """Why each of these tables must not be published with these operations; the others may."""
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
    return refused


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
