"""What snapshot diff compares of a table, by ranges of which columns, and what it remembers of them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from pg_ingest.bookmark import SnapshotDiffBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.errors import MethodUnavailable
from pg_ingest.methods.columns import chosen_columns, key_columns
from pg_ingest.methods.key_ranges import KeyRanges
from pg_ingest.postgres.checksum import RECIPE
from pg_ingest.postgres.key_order import MOST_COLUMNS, InRanges, OrderedColumn, ordered_column
from pg_ingest.postgres.range_sums import Surveyed
from pg_ingest.postgres.select import SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.table import Column, RelationKind, Table


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, settled before any row is."""

    session: Session
    table: Table
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: tuple[OrderedColumn, ...]
    where: str | None

    @property
    def unproven_key(self) -> tuple[str, ...]:
        """The key, where only the configuration says that it is unique."""
        unique = frozenset(self.table.primary_key)
        return () if unique and unique <= frozenset(self.key) else self.key

    @property
    def named_columns(self) -> tuple[tuple[str, str], ...]:
        """Names and types; a domain's type goes with what it is made of."""
        return tuple(
            (c.name, f"{c.type.display} {c.type.name} {c.type.modifier}") for c in self.columns
        )

    def surveyed(self, order: tuple[OrderedColumn, ...], seed: int) -> Surveyed:
        """What is asked of the server."""
        key = tuple(self.table.column(name) for name in self.key)
        return Surveyed(self.session, self.table, self.columns, key, order, self.where, seed)

    def surveyed_again(self, old: SnapshotDiffBookmark) -> Surveyed:
        """What is asked of the server to compare with `old`."""
        order = tuple(each for each in self.order if each.column.name in old.cut_by)
        return self.surveyed(order, old.seed)

    def query(self, within: InRanges | None = None) -> SelectQuery:
        """The rows, or those in some ranges."""
        bounds = () if within is None else (within,)
        return select_rows(self.table, self.columns, where=self.where, bounds=bounds)


def planned(session: Session, replication: Replication, table: Table) -> Plan:
    """What is read.

    Raises MethodUnavailable without a key that has an order, SourceTableChanged, PermissionMissing.
    """
    if table.kind is RelationKind.FOREIGN:
        raise MethodUnavailable(
            f"{table.id} is a foreign table",
            detail="its rows are another server's: two statements may see two states of them",
            hint="replicate it from that server, or take `method: full_table`",
        )
    columns = chosen_columns(session, replication, table)
    key = key_columns(replication, table, columns)
    order = order_of_key(session, table, key)
    return Plan(session, table, columns, key, order, replication.where)


def order_of_key(session: Session, table: Table, key: Sequence[str]) -> tuple[OrderedColumn, ...]:
    """The columns of the key that it is cut into ranges by; raise MethodUnavailable without one."""
    utf8 = session.encoding == "UTF8"
    known = [ordered_column(table.column(name), utf8=utf8) for name in key]
    order = tuple(column for column in known if column is not None)
    if not order:
        kinds = ", ".join(f"{name} {table.column(name).type.display}" for name in key)
        raise MethodUnavailable(
            f"{table.id}: its key cannot be cut into ranges",
            detail=f"no column of it is ordered alike here and in the destination: {kinds}",
            hint="whole numbers, texts, dates, times, uuids and decimals are: declare another unique"
            " `key: [...]`, or take another method",
        )
    return order[:MOST_COLUMNS]


def new_seed() -> int:
    """A random signed number of 64 bits."""
    return secrets.randbits(64) - (1 << 63)


def bookmark_of(
    plan: Plan, seen: Snapshot, seed: int, order: Sequence[OrderedColumn], ranges: KeyRanges
) -> SnapshotDiffBookmark:
    """What later checksums are compared with."""
    return SnapshotDiffBookmark(
        snapshot_lsn=str(seen.lsn),
        snapshot_at=seen.taken_at,
        server_major=plan.session.server_version // 10000,
        recipe=RECIPE,
        seed=seed,
        columns=plan.named_columns,
        key=plan.key,
        cut_by=tuple(each.column.name for each in order),
        where=plan.where,
        ranges=ranges.packed(),
    )
