"""The tables of one database whose changes wal2json lists, and which of them it cannot list honestly.

There is no publication to keep in step: what is listed is asked for at each reading, from the slot's position
on. So a table that joins is decoded from there, whenever its transactions began, and nothing has to be read
twice as with publications (`capture_log`); that those who write to it have ended is still waited for, since a
transaction that committed before the position may only now become visible to snapshots.

What would be lost without a word is refused, or noticed: updates of a table without a replica identity, rows
written under a name that nobody listed (`postgres.wal2json`), and with a plugin that writes NaN as null what
such a null stands for, as far as the table's columns can hold both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pg_ingest.changelog.followed import Followed, read_followed, write_followed
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.decode.wal2json.blocks import NAN_AS_NULL
from pg_ingest.errors import MethodUnavailable, PgIngestError
from pg_ingest.following.publish_log import chosen_of
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.log_end import flushed_lsn
from pg_ingest.postgres.publishable import kind_refused
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.wal2json import Member, Tree, Wal2Json, read_trees, says_all, wal2json
from pg_ingest.table import Table, TableId


@dataclass(frozen=True, slots=True)
class Listing:
    """What one capture lists.

    Attributes:
        upto: where the log ended before the catalogue was asked; behind it names may be others.
        says_all: the plugin can tell NaN from NULL.
        trees: the relations of each table.
        failures: why each of the other tables cannot be listed.
    """

    upto: Lsn
    says_all: bool
    trees: Mapping[TableId, Tree]
    failures: Mapping[TableId, PgIngestError]

    def plugin(self, manifest: Manifest) -> Wal2Json:
        """As it is asked now, knowing what was listed before."""
        trees = {tree.root.oid: tree for tree in self.trees.values()}
        return wal2json(trees, manifest.layouts, says_all=self.says_all)

    def mark(self, table: TableId) -> str:
        """See `Tree.mark`."""
        return self.trees[table].mark


def list_tables(
    session: Session,
    slot: str,
    tables: Collection[Table],
    replications: Mapping[TableId, Replication],
    upto: Lsn,
) -> Listing:
    """What can be listed of these tables; the slot must exist."""
    return _listing(session, tables, replications, upto, tells=says_all(session, slot))


def unlistable(
    session: Session,
    slot: str | None,
    tables: Collection[Table],
    replications: Mapping[TableId, Replication],
) -> Mapping[TableId, PgIngestError]:
    """Why some of the tables cannot be listed; without a slot to ask, the plugin is taken to be new."""
    tells = slot is None or says_all(session, slot)
    return _listing(session, tables, replications, Lsn(0), tells=tells).failures


def _listing(
    session: Session,
    tables: Collection[Table],
    replications: Mapping[TableId, Replication],
    upto: Lsn,
    *,
    tells: bool,
) -> Listing:
    found = read_trees(session, [table.oid for table in tables])
    trees: dict[TableId, Tree] = {}
    failures: dict[TableId, PgIngestError] = {}
    for table in tables:
        tree = found.get(table.oid)
        error = kind_refused(session, table, tables, by_root=True)
        if tree is not None:
            error = error or _refused(table, tree, replications[table.id], tells=tells)
        if error is None and tree is not None:
            trees[table.id] = tree
        elif error is not None:
            failures[table.id] = error
    return Listing(upto, tells, trees, failures)


def list_followed(session: Session, slot: str, changelog: ChangeLog) -> Listing:
    """The tables that are followed, as long as the names they are logged under are still the same.

    The others are not followed any more when this returns.
    """
    upto = flushed_lsn(session)
    followed = read_followed(changelog)
    found = read_trees(session, [entry.oid for entry in followed.values()])
    trees = {
        table: found[entry.oid]
        for table, entry in followed.items()
        if entry.oid in found and found[entry.oid].mark == entry.mark
    }
    kept: dict[TableId, Followed] = {table: followed[table] for table in trees}
    if kept != followed:
        write_followed(changelog, kept)
    return Listing(upto, says_all(session, slot), trees, {})


def _refused(
    table: Table, tree: Tree, replication: Replication, *, tells: bool
) -> MethodUnavailable | None:
    for member in tree.members:
        if member.stores_rows and not member.layout.identity:
            return _no_identity(table, member)
    if tells or _can_be_asked(table, replication):
        return None
    doubtful = _doubtful(table, tree.root, replication)
    return _nan_or_null(table, doubtful) if doubtful else None


def _can_be_asked(table: Table, replication: Replication) -> bool:
    """Whether a value that the log does not tell can be read from the row when its change is applied."""
    key = replication.key or table.primary_key or table.identity_columns
    return bool(key) and replication.shape in (Shape.LIVE, Shape.SOFT_DELETE)


def _doubtful(table: Table, root: Member, replication: Replication) -> Sequence[str]:
    """Columns that can hold NaN and NULL. Those of a domain have a type of their own and are texts."""
    chosen = chosen_of(replication)
    numbers = {column.name for column in root.columns if column.type_oid in NAN_AS_NULL}
    return [
        column.name
        for column in table.columns
        if column.name in numbers
        and column.nullable
        and not column.generated
        and chosen.keeps(column.name)
    ]


def _no_identity(table: Table, member: Member) -> MethodUnavailable:
    part = "" if member.id == table.id else f" (partition {member.id})"
    name = f"{quoted(member.id.schema)}.{quoted(member.id.name)}"
    return MethodUnavailable(
        f"{table.id} has no usable replica identity{part}",
        detail="wal2json would leave every UPDATE and DELETE of it out of the log",
        hint=f"add a primary key, or ALTER TABLE {name} REPLICA IDENTITY FULL; or USING INDEX with a unique"
        " index over NOT NULL columns, or choose another method",
    )


def _nan_or_null(table: Table, columns: Sequence[str]) -> MethodUnavailable:
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return MethodUnavailable(
        f"{table.id}: this server's wal2json cannot tell NULL from NaN and infinity",
        detail=f"in {', '.join(columns[:5])}{more}: floating-point and numeric columns that may be NULL, and"
        " without a key, or where every version is kept, the row cannot be asked",
        hint="install wal2json 2.6 or newer on the server, set `log.plugin: pgoutput`, make the columns NOT"
        " NULL, leave them out with `exclude_columns`, or give the table a primary key",
    )
