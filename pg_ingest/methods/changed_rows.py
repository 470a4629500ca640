"""What `xmin` and `delta_snapshot` share: what is read, from which position on, and when all is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pg_ingest.batch import Batch, Everything, Groups, Keys, Reading
from pg_ingest.bookmark import (
    Bookmark,
    DeltaSnapshotBookmark,
    Partition,
    XminBookmark,
    method_of,
)
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.errors import ConfigError, MethodUnavailable, PermissionMissing, SourceBusy
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.columns import chosen_columns, key_columns
from pg_ingest.methods.moment import Moment, at_one_moment
from pg_ingest.methods.outdated import same_history, why_everything
from pg_ingest.methods.partitions import went_or_emptied
from pg_ingest.methods.shape import logged
from pg_ingest.postgres import row_versions
from pg_ingest.postgres.flushed import survives
from pg_ingest.postgres.partitions import partitions_of
from pg_ingest.postgres.privileges import grant_columns
from pg_ingest.postgres.row_versions import Either, InPartitions, KeyAmong, WrittenBetween, both
from pg_ingest.postgres.select import Bound, Condition, SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.storage import digest
from pg_ingest.postgres.value_texts import value_texts
from pg_ingest.table import Column, RelationKind, Table

PATIENCE = 2.0
"""Seconds to wait until a crash of the server cannot take back what the snapshot sees (usually 0.6 at most)."""


_WITH_ROW_VERSIONS = frozenset(
    {RelationKind.TABLE, RelationKind.PARTITIONED, RelationKind.MATERIALIZED_VIEW}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read, settled before any row is."""

    table: Table
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    where: str | None
    grouped: bool = False

    @property
    def unproven_key(self) -> tuple[str, ...]:
        """The key, where only the configuration says that it is unique."""
        if self.grouped:
            return ()
        unique = frozenset(self.table.primary_key)
        return () if unique and unique <= frozenset(self.key) else self.key

    def rows(self, *conditions: Condition) -> SelectQuery:
        """The rows that meet all conditions."""
        return select_rows(self.table, self.columns, where=self.where, bounds=conditions)

    def groups(self, *conditions: Condition) -> SelectQuery:
        """All rows whose key one of the rows has that meet all conditions; NULLs in a key are equal."""
        key = [column for column in self.columns if column.name in self.key]
        chosen = select_rows(self.table, key, where=self.where, bounds=conditions)
        found = self.rows(KeyAmong(tuple(column.name for column in key), chosen))
        if not any(column.nullable for column in key):
            return found
        missing = Either(tuple(Bound(each.name, "is null") for each in key if each.nullable))
        return both(found, self.rows(missing))

    def keys(self, *conditions: Condition) -> SelectQuery:
        """Only the key of these rows."""
        columns = [column for column in self.columns if column.name in self.key]
        return select_rows(self.table, columns, where=self.where, bounds=conditions)


def planned(
    session: Session,
    replication: Replication,
    table: Table,
    window: tuple[str, str] | None = None,
) -> Plan:
    """What to read.

    Raises ConfigError for a window, MethodUnavailable for a relation whose rows do not say who wrote them or
    that has no key, PermissionMissing, QueryRefused, SourceTableChanged.
    """
    if window is not None:
        raise ConfigError(
            f"{table.id} is read by what changed in it, not in windows",
            hint="take `method: full_table` for a table with `partition_by`",
        )
    columns = chosen_columns(session, replication, table)
    key = key_columns(replication, table, columns)
    refuse_without_xmin(session, replication, table)
    plan = Plan(table, columns, key, replication.where, grouped=bool(replication.update_key))
    session.explain(plan.rows())
    return plan


def refuse_without_xmin(session: Session, replication: Replication, table: Table) -> None:
    """Raise MethodUnavailable for a relation without `xmin`, PermissionMissing where it may not be read."""
    strange = row_versions.without_xmin(session, table)
    if table.kind not in _WITH_ROW_VERSIONS or strange:
        detail = ", ".join(f"{name}: {method}" for name, method in strange[:5])
        raise MethodUnavailable(
            f"{table.id}: its rows do not say which transaction wrote them",
            detail=f"it is a {table.kind}" if not detail else f"stored otherwise: {detail}",
            hint=f"{replication.method} needs a table; take `method: key_based` or `method: full_table`",
        )
    hidden = row_versions.hidden_from(session, table)
    if hidden:
        raise PermissionMissing(
            f"{table.id}: hidden columns may not be read by role {session.role}: {', '.join(hidden)}",
            detail="only some columns of the table are granted, and these have to be granted too",
            hint=f"{grant_columns(table.id, hidden, session.role)}"
            " or grant SELECT on the whole table, or take another method",
        )


def first_position(session: Session, plan: Plan) -> XminBookmark:
    """A position taken now, before anything is read: from there on later changes are found."""
    server = row_versions.server_of(session)
    with at_one_moment(session, plan.table) as moment:
        mark = _bookmark(moment, plan, server)
        return replace(mark, xmin=_durable(moment, mark.xmin))


def beginning(plan: Plan, position: Callable[[], XminBookmark]) -> Beginning:
    """What a first load in chunks reads; a row deleted meanwhile is a missed delete like any other."""
    return Beginning(
        columns=plan.columns,
        schema=arrow_schema(plan.columns),
        key=() if plan.grouped else plan.key,
        unproven_key=plan.unproven_key,
        dress=lambda batches, _lsn: batches,
        position=position,
        settings=repr(plan.where),
    )


@dataclass(frozen=True, slots=True)
class Start:
    """Where a reading begins.

    Attributes:
        old: the bookmark to go on from, None to read everything.
        now: what the new bookmark will say.
        came: oids of partitions that must be read whole.
        notes: for people.
    """

    old: XminBookmark | None
    now: XminBookmark
    came: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def changed(self) -> tuple[Condition, ...]:
        """What a row must meet one of to be read; empty where all are."""
        return self.written(self.now.xmax)

    def written(self, xmax: int) -> tuple[Condition, ...]:
        """The same for a snapshot that sees no id from `xmax` on."""
        if self.old is None:
            return ()
        written = WrittenBetween(self.old.xmin, max(xmax, self.old.xmin))
        return (written, InPartitions(self.came)) if self.came else (written,)


def started(moment: Moment, plan: Plan, server: str, bookmark: Bookmark | None) -> Start:
    """Compare what was read with what is there; raise SourceBusy on a standby that is too far behind."""
    now = _bookmark(moment, plan, server)
    if bookmark is None:
        return Start(None, now, (), ())
    if not isinstance(bookmark, XminBookmark):
        reason = f"it was loaded by {method_of(bookmark)} before"
        return Start(None, now, (), (f"all rows are read once: {reason}",))
    if moment.session.is_standby and same_history(bookmark, now) and now.xmax < bookmark.xmax:
        raise _behind(moment, bookmark, now)
    reason = why_everything(bookmark, now)
    if reason:
        return Start(None, now, (), (f"all rows are read again: {reason}",))
    came = _came(bookmark.partitions, now.partitions)
    return Start(bookmark, now, came, tuple(_notes(bookmark, now, came)))


def durable_start(moment: Moment, plan: Plan, server: str, bookmark: Bookmark | None) -> Start:
    """As `started`, with a position that a crash of the server leaves true, settled before any row is read."""
    start = started(moment, plan, server, bookmark)
    before = 0 if start.old is None else start.old.xmin
    safe = max(before, _durable(moment, start.now.xmin))
    return replace(start, now=replace(start.now, xmin=safe))


def _bookmark(moment: Moment, plan: Plan, server: str) -> XminBookmark:
    session, table, seen = moment.session, moment.table, moment.snapshot
    computed = row_versions.virtual_columns(session, table)
    columns = [
        replace(column, type=f"{column.type} AS {computed[column.name]}")
        if column.name in computed
        else column
        for column in logged(plan.columns)
    ]
    return XminBookmark(
        xmin=seen.xmin,
        xmax=seen.xmax,
        server=server,
        file=digest({table.oid: moment.files.get(table.oid)}),
        partitions=partitions_of(session, table),
        columns=tuple(columns),
        key=plan.key,
        where=plan.where,
        grouped=plan.grouped,
        texts=value_texts(session, plan.columns),
    )


def _came(old: tuple[Partition, ...], now: tuple[Partition, ...]) -> tuple[int, ...]:
    known = set(old)
    return tuple(partition.oid for partition in now if partition not in known)


def _notes(old: XminBookmark, now: XminBookmark, came: tuple[int, ...]) -> Iterator[str]:
    if came:
        yield f"partitions read whole, because they were attached, created or rewritten: {len(came)}"
    went = went_or_emptied(old.partitions, now.partitions)
    if went:
        yield f"partitions {went}"
    if now.xmin == old.xmin < old.xmax:
        yield (
            f"the position waits for transaction {now.xmin % row_versions.IDS}, which has been open since"
            " an earlier sync; rows written after it began are read again, none is lost"
        )


def _behind(moment: Moment, old: XminBookmark, now: XminBookmark) -> SourceBusy:
    return SourceBusy(
        f"{moment.table.id}: this standby is behind what has been read already",
        detail=f"transaction ids below {old.xmax} were seen, here they end at {now.xmax}",
        hint="it is tried again until the standby has caught up; if it was restored to an earlier time,"
        f" `pg-ingest reset {moment.table.id}` reads all rows again",
    )


def scope_of(start: Start, plan: Plan) -> Everything | Keys | Groups:
    """What the rows replace where no deletes are looked for."""
    if start.old is None:
        return Everything(plan.unproven_key)
    return Groups(plan.key) if plan.grouped else Keys(plan.key)


def durably(
    moment: Moment, start: Start, reading: Reading, batches: Iterator[Batch]
) -> Iterator[Batch]:
    """The same batches; then the reading's bookmark is made one that a crash of the server leaves true.

    See "A server that crashes" in `methods/xmin.py`.
    """
    yield from moment.checked(batches)
    mark = reading.bookmark
    assert isinstance(mark, XminBookmark)
    safe = _durable(moment, mark.xmin)
    if safe < mark.xmin:
        before = 0 if start.old is None else start.old.xmin
        reading.bookmark = _lowered(mark, max(before, safe))


def _durable(moment: Moment, wanted: int) -> int:
    """This id, or a lower one, such that no id below is given out again after a crash."""
    if survives(moment.session, moment.snapshot.lsn, PATIENCE):
        return wanted
    return min(wanted, row_versions.durable_id(moment.session))


def _lowered(mark: XminBookmark, xmin: int) -> XminBookmark:
    if isinstance(mark, DeltaSnapshotBookmark):
        return replace(mark, xmin=xmin, rows=mark.rows if xmin == mark.xmin else None)
    return replace(mark, xmin=xmin)
