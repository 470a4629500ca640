"""What a database holds, read from pg_catalog in six queries whatever the number of tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from pg_ingest.errors import PermissionMissing, SourceTableChanged
from pg_ingest.postgres import catalog_queries as queries
from pg_ingest.postgres.catalog_queries import Wanted
from pg_ingest.postgres.catalog_types import Types
from pg_ingest.postgres.faults import grant_select
from pg_ingest.postgres.session import Session
from pg_ingest.table import (
    Column,
    DatabaseCatalog,
    RelationKind,
    ReplicaIdentity,
    Table,
    TableId,
)

_KINDS = {
    "r": RelationKind.TABLE,
    "p": RelationKind.PARTITIONED,
    "v": RelationKind.VIEW,
    "m": RelationKind.MATERIALIZED_VIEW,
    "f": RelationKind.FOREIGN,
}

_IDENTITIES = {
    "d": ReplicaIdentity.DEFAULT,
    "n": ReplicaIdentity.NOTHING,
    "f": ReplicaIdentity.FULL,
    "i": ReplicaIdentity.INDEX,
}


def read_database(session: Session, only: Collection[TableId] | None = None) -> DatabaseCatalog:
    """The session's database: all its relations, or those of `only` that exist."""
    return DatabaseCatalog(
        session.database, session.server_version, tuple(_CatalogReader(session, only).tables())
    )


def list_databases(session: Session) -> tuple[str, ...]:
    """Databases, in order, that are no templates, accept connections and let this user in."""
    found = session.rows(
        "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate"
        " AND has_database_privilege(datname, 'CONNECT') ORDER BY 1",
        what="listing the databases",
    )
    return tuple(name for (name,) in found)


def describe(session: Session, table_id: TableId) -> Table:
    """One table as it is now.

    Raises SourceTableChanged when it is gone, PermissionMissing when no column of it may be read.
    """
    table = read_database(session, only=[table_id]).table(table_id)
    if table is None:
        raise SourceTableChanged(
            f"table {table_id} does not exist in database {session.database}",
            detail=f"user {session.role} on {session.source}",
            hint="dropped or renamed? run `pg-ingest discover` and look at `tables` in the configuration",
        )
    if not table.selectable:
        raise PermissionMissing(
            f"user {session.role} may not read {table_id} in database {session.database}",
            detail="neither the table nor one of its columns is granted, or its schema is not",
            hint=grant_select(table_id, session.role),
        )
    return table


def unreadable_columns(session: Session, table: Table) -> tuple[str, ...]:
    """The columns of `table` that this user has no SELECT privilege on, in column order."""
    denied = session.rows(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = %s AND attnum > 0"
        " AND NOT attisdropped AND NOT has_column_privilege(attrelid, attnum, 'SELECT')"
        " ORDER BY attnum",
        (table.oid,),
        what=f"looking at the grants of {table.id}",
    )
    return tuple(name for (name,) in denied)


class _CatalogReader:
    """The answers of one database's catalogue, joined by oid."""

    def __init__(self, session: Session, only: Collection[TableId] | None) -> None:
        wanted = Wanted(session.server_version, None if only is None else tuple(only))

        def ask(query: Any) -> list[tuple[Any, ...]]:
            return session.rows(query, what="reading the catalogue")

        self._relations = ask(queries.relations(wanted))
        self._types = Types(ask(queries.types(wanted)))
        self._columns = self._by_relation(ask(queries.columns(wanted)))
        self._indexes = self._by_relation(ask(queries.indexes(wanted)))
        self._roots = {oid: TableId(*name) for oid, *name in ask(queries.parents(wanted))}
        self._totals = {oid: (rows, pages) for oid, rows, pages in ask(queries.descendants(wanted))}
        ((self._block_size,),) = ask("SELECT current_setting('block_size')::int8")

    @staticmethod
    def _by_relation(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
        grouped: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for oid, *rest in rows:
            grouped[oid].append(tuple(rest))
        return grouped

    def tables(self) -> list[Table]:
        """All relations in order of their ids."""
        return sorted((self._table(*row) for row in self._relations), key=lambda table: table.id)

    def _table(
        self,
        oid: int,
        schema: str,
        name: str,
        relkind: str,
        relreplident: str,
        unlogged: bool,
        is_partition: bool,
        rows: float,
        pages: int,
        selectable: bool,
        comment: str | None,
    ) -> Table:
        columns = tuple(self._column(*row) for row in self._columns.get(oid, ()))
        names = {column.attnum: column.name for column in columns}
        identity = _IDENTITIES[relreplident]
        estimated_rows, estimated_bytes = self._estimates(oid, relkind, rows, pages)
        return Table(
            id=TableId(schema, name),
            oid=oid,
            kind=_KINDS[relkind],
            columns=columns,
            primary_key=self._primary_key(oid, names),
            identity=identity,
            identity_columns=self._identity_columns(oid, identity, names),
            partition_root=self._roots.get(oid) if is_partition else None,
            estimated_rows=estimated_rows,
            estimated_bytes=estimated_bytes,
            unlogged=unlogged,
            selectable=selectable,
            comment=comment,
        )

    def _column(
        self,
        name: str,
        attnum: int,
        type_oid: int,
        modifier: int,
        display: str,
        not_null: bool,
        generated: bool,
        comment: str | None,
    ) -> Column:
        resolved = self._types.resolve(type_oid, modifier, display)
        return Column(name, attnum, resolved, not not_null, generated, comment)

    def _primary_key(self, oid: int, names: dict[int, str]) -> tuple[str, ...]:
        for primary, _, _, attnums in self._indexes.get(oid, ()):
            if primary:
                return tuple(names[attnum] for attnum in attnums)
        return ()

    def _identity_columns(
        self, oid: int, identity: ReplicaIdentity, names: dict[int, str]
    ) -> tuple[str, ...]:
        for primary, chosen, usable, attnums in self._indexes.get(oid, ()):
            wanted = {ReplicaIdentity.DEFAULT: primary, ReplicaIdentity.INDEX: chosen}
            if wanted.get(identity, False) and usable:
                return tuple(names[attnum] for attnum in attnums)
        return ()

    def _estimates(self, oid: int, relkind: str, rows: float, pages: int) -> tuple[int, int]:
        """Rows and bytes; before version 14 "never analysed" is 0 rows in 0 pages, after it -1."""
        if relkind == "p":
            rows, pages = self._totals.get(oid, (-1.0, 0))
        if relkind in "vf" or rows < 0 or (rows == 0 and pages == 0):
            return -1, -1
        return round(rows), pages * self._block_size
