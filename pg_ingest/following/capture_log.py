"""One source database's log into its change log: publication, slot, capture, and who is followed since when.

It knows no destination and waits for none. It is done as a whole whichever tables are wanted, because the
slot is shared: what is captured stays in the change log until each table has applied it.

Which tables join, and when one is followed for good, is told in `follow_log.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pg_ingest.changelog.capture import NO_CHOICE, Captured, capture
from pg_ingest.changelog.chosen import Chosen
from pg_ingest.changelog.join import join_slot
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest
from pg_ingest.config.log import Plugin
from pg_ingest.config.selection import Replication
from pg_ingest.errors import (
    PersonMustAct,
    PgIngestError,
)
from pg_ingest.following.follow_log import LogTables
from pg_ingest.following.list_log import list_followed
from pg_ingest.following.publish_log import (
    chosen_of,
)
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.heartbeat import HEARTBEAT_AT_PRIMARY, beat
from pg_ingest.postgres.log_end import flushed_lsn
from pg_ingest.postgres.plugin import LogPlugin, PgOutput
from pg_ingest.postgres.publication import EVERY_OPERATION
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import Slot, locked_slot, read_slot
from pg_ingest.postgres.slot_creation import check_kind
from pg_ingest.postgres.table_marks import TableMarks, marks_of
from pg_ingest.table import Table, TableId

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogCapture:
    """What one capture did and found.

    Attributes:
        captured: sums of its rounds; `begun_at`: the log's position before.
        tables: those that exist, as they are now.
        since: the position since which each table is followed; a snapshot must not be older.
        failures: why each of the other tables cannot be replicated now. One that does not exist has a
            SourceTableChanged and is in `absent` too.
        behind: bytes of WAL that were written but not captured when it ended.
        notes: for people.
        chosen: which columns of some tables are captured; of the others, all.
        filtered: tables of which only rows that pass their `where` are captured.
        marks: of `tables`, at the same time: before the log was read.
        operations: what the publication carries, of `insert`, `update`, `delete`, `truncate`.
    """

    database: str
    captured: Captured
    begun_at: Lsn
    tables: Mapping[TableId, Table]
    since: Mapping[TableId, Lsn]
    failures: Mapping[TableId, PgIngestError]
    absent: frozenset[TableId]
    slot: Slot | None
    behind: int
    notes: tuple[str, ...] = ()
    chosen: Mapping[TableId, Chosen] = field(default_factory=dict)
    filtered: frozenset[TableId] = frozenset()
    operations: frozenset[str] = EVERY_OPERATION
    marks: Mapping[TableId, TableMarks] = field(default_factory=dict)

    @property
    def inserts_only(self) -> bool:
        """The publication carries no old rows, so tables need no replica identity."""
        return not self.operations & {"update", "delete"}


def change_log(state_dir: Path, source: str, database: str) -> ChangeLog:
    """Where the changes of that database are kept."""
    return ChangeLog(state_dir, source, database)


def capture_log(
    server: Server, state_dir: Path, database: str, replications: Sequence[Replication]
) -> LogCapture:
    """Capture everything that the slot holds, after bringing the publication in step.

    Args:
        replications: all log-based tables of the source, not only those wanted now: ours of the
            publication loses the others.

    Raises SlotBusy when another process works with the slot, SlotUnusable, MethodUnavailable (the server
    is not set up), PermissionMissing, ChangeLogDamaged, SourceUnreachable. What is wrong with single tables
    is in `failures`.
    """
    slot = server.config.log.slot_name(database)
    with server.session(database, purpose="capture") as session, locked_slot(session, slot):
        changelog = change_log(state_dir, server.source, database)
        wanted = {replication.table: replication for replication in replications}
        return _Capture(session, changelog, slot, LogTables(session, changelog, wanted)).run()


def capture_again(
    server: Server,
    state_dir: Path,
    database: str,
    chosen: Mapping[TableId, Chosen] = NO_CHOICE,
) -> Captured:
    """Capture without looking at publication and tables: between loads that take long.

    `chosen` is that of the LogCapture before. Raises as `capture_log`.
    """
    config = server.config.log
    slot = config.slot_name(database)
    with server.session(database, purpose="capture") as session, locked_slot(session, slot):
        changelog = change_log(state_dir, server.source, database)
        manifest = join_slot(session, changelog, slot)
        if config.plugin is Plugin.PGOUTPUT:
            return capture(session, changelog, PgOutput(config.publication), manifest, chosen)
        listing = list_followed(session, slot, changelog)
        plugin = listing.plugin(manifest)
        return capture(session, changelog, plugin, manifest, chosen, listing.upto)


@dataclass(slots=True)
class _Capture:
    """One run of `capture_log`, with the slot locked."""

    session: Session
    changelog: ChangeLog
    slot: str
    log_tables: LogTables
    notes: list[str] = field(default_factory=list)

    def run(self) -> LogCapture:
        failures = self.log_tables.failures
        upto = flushed_lsn(self.session)
        tables = self.log_tables.find()
        absent = frozenset(self.log_tables.replications.keys() - tables.keys())
        if not tables and self._untouched():
            return self._nothing(upto, absent)
        check_kind(self.session)
        marks = marks_of(self.session, [table.oid for table in tables.values()])
        if self.session.log.plugin is Plugin.PGOUTPUT:
            members = self.log_tables.publish(tables)
        else:
            self._joined_slot()
            members = self.log_tables.enlist(self.slot, tables, upto)
        begun_at, captured = self._captured()
        published = [tables[each] for each in sorted(members.tables & tables.keys())]
        joined = [table for table in published if table.id not in failures]
        followed, more = self.log_tables.follow(joined, lambda: self._captured()[1])
        slot = read_slot(self.session, self.slot)
        captured = _sum(captured, more)
        return LogCapture(
            database=self.session.database,
            captured=captured,
            begun_at=begun_at,
            tables=tables,
            since={table: Lsn(entry.since) for table, entry in followed.items()},
            failures=failures,
            absent=absent,
            slot=slot,
            behind=max(0, flushed_lsn(self.session) - captured.position),
            notes=(*members.notes, *self.notes),
            chosen=self._chosen,
            filtered=frozenset(t for t, entry in followed.items() if entry.filter is not None),
            operations=members.operations,
            marks={id: marks[table.oid] for id, table in tables.items() if table.oid in marks},
        )

    def _untouched(self) -> bool:
        """Whether nothing was ever captured here, and there is no slot either."""
        return self.changelog.manifest() is None and read_slot(self.session, self.slot) is None

    def _nothing(self, upto: Lsn, absent: frozenset[TableId]) -> LogCapture:
        """A database that has none of the tables gets no publication and no slot, which would keep WAL."""
        return LogCapture(
            database=self.session.database,
            captured=Captured(upto, transactions=0, rows=0, bytes=0, segments=()),
            begun_at=upto,
            tables={},
            since={},
            failures=self.log_tables.failures,
            absent=absent,
            slot=None,
            behind=0,
        )

    @property
    def _chosen(self) -> Mapping[TableId, Chosen]:
        found = {table: chosen_of(one) for table, one in self.log_tables.replications.items()}
        return {table: chosen for table, chosen in found.items() if chosen != Chosen()}

    def _joined_slot(self) -> Manifest:
        wanted = self.session.log.start_lsn
        start = None if wanted is None else Lsn.parse(wanted)
        return join_slot(self.session, self.changelog, self.slot, start)

    def _captured(self) -> tuple[Lsn, Captured]:
        manifest = self._joined_slot()
        self._beat(manifest.captured_at)
        plugin: LogPlugin = PgOutput(self.session.log.publication)
        upto = None
        if (listing := self.log_tables.listing) is not None:
            plugin, upto = listing.plugin(manifest), listing.upto
        captured = capture(self.session, self.changelog, plugin, manifest, self._chosen, upto)
        return Lsn(manifest.position), captured

    def _beat(self, last: float) -> None:
        """Write something where nobody else may have, so that the log of an idle server goes on.

        Where that fails for good, the notes say so and the capture goes on: it moves the slot all the same.
        """
        wanted = self.session.log.heartbeat
        if wanted is None or time.time() - last < wanted.seconds:
            return
        if self.session.is_standby:
            self.notes.append(f"no heartbeat from a standby: {HEARTBEAT_AT_PRIMARY}")
            return
        try:
            beat(self.session, None if wanted.table is None else TableId.parse(wanted.table))
        except PersonMustAct as error:
            self.notes.append(f"no heartbeat: {error.message} ({error.detail}); {error.hint}")
            log.error("no heartbeat: %s", error)


def _sum(first: Captured, second: Captured | None) -> Captured:
    if second is None:
        return first
    return replace(
        second,
        transactions=first.transactions + second.transactions,
        rows=first.rows + second.rows,
        bytes=first.bytes + second.bytes,
        segments=first.segments + second.segments,
    )
