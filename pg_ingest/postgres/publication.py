"""A publication: what the log says about which tables.

Ours carries a comment that says so and is kept in step with the selection; any other is used as it is.
Which tables may join ours: `publishable.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from pg_ingest.errors import PermissionMissing, SlotUnusable
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId

OURS = "pg_ingest keeps the tables of this publication in step with its configuration"
"""The comment on a publication that we made."""

VIA_ROOT_VERSION = 130000
"""Partitioned tables can be published, as one table, from here on."""

EVERY_OPERATION = frozenset({"insert", "update", "delete", "truncate"})


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication as it is now.

    Attributes:
        operations: of `insert`, `update`, `delete`, `truncate`, those it carries.
        via_root: changes of partitions appear as those of their root.
        ours: we made it and may alter it, which on a standby nobody may.
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
        ours=comment == OURS and not session.is_standby,
        tables=frozenset(TableId(*table) for table in tables),
    )


def keep_publication(session: Session, name: str, tables: Collection[Table]) -> Publication:
    """Make sure that the publication carries these tables, and return it as it is then.

    It is created when it does not exist. Ours gains and loses tables; somebody else's must have them.
    Every table must have passed `publishable.refusals`. Raises SlotUnusable when somebody else's publication
    lacks a table, or on a standby when there is none; PermissionMissing when we may not make or alter it.
    """
    now = read_publication(session, name)
    if now is None and session.is_standby:
        raise SlotUnusable(
            f"publication {name} does not exist, and a standby cannot make it",
            detail=f"database {session.database}",
            hint=f"on the primary: {create_publication(name, tables, session.server_version)};",
        )
    statements = _statements(session, name, now, tables)
    if statements:
        _alter(session, name, statements)
        now = read_publication(session, name)
    if now is None:
        raise SlotUnusable(f"publication {name} vanished directly after it was created")
    _check_complete(session, now, tables)
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


def _check_complete(session: Session, now: Publication, tables: Collection[Table]) -> None:
    missing = sorted(
        (table for table in tables if table.id not in now.tables), key=lambda table: table.id
    )
    if not missing:
        return
    names = [str(table.id) for table in missing]
    parts = "" if now.via_root else "; it publishes partitions, not their roots"
    why = "it was not made by us, so we do not alter it"
    hint = f"ALTER PUBLICATION {quoted(now.name)} ADD TABLE …"
    if session.is_standby:
        why = "a standby cannot alter it"
        hint = f"on the primary: {add_tables(now.name, missing)};"
    raise SlotUnusable(
        f"publication {now.name} does not carry {', '.join(names[:5])}"
        + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
        detail=why + parts,
        hint=f"{hint} (or name another in `log.publication`)",
    )
