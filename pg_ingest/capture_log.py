"""One source database's log into its change log: publication, slot, capture, and who is followed since when.

It knows no destination and waits for none. It is done as a whole whichever tables are wanted, because the
slot is shared: what is captured stays in the change log until each table has applied it.

When a table joins. A transaction that began to write before the table was in the publication is not decoded for
it, although it commits later. So after the publication has the table, we wait until all transactions that are
writing to it have ended; whoever writes later is decoded, and whoever has ended is seen by every snapshot from
then on. From that position on the table is *followed* (`changelog/followed.py`).

With wal2json there is no publication; `list_log` says what takes its place.

Older servers need more with publications: while they decode a transaction that began before the table joined,
they may remember that the table is not published, and so leave out others' changes too, until the end of that
reading ("Fix data loss in logical replication", 14.18, 15.13, 16.9 and 17.5; 13 counts as older). There we
read the slot once more, which contains the damage to transactions that committed before the end of that
reading, and wait for those of them that have not ended in the eyes of snapshots. After that no reading
contains such a transaction any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pg_ingest.changelog.capture import NO_CHOICE, Captured, capture, join_slot
from pg_ingest.changelog.chosen import Chosen
from pg_ingest.changelog.followed import Followed, read_followed, write_followed
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest
from pg_ingest.config.log import Plugin
from pg_ingest.config.selection import Replication
from pg_ingest.errors import (
    PersonMustAct,
    PgIngestError,
    SourceTableChanged,
)
from pg_ingest.list_log import Listing, list_followed, list_tables
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.catalog import read_database
from pg_ingest.postgres.heartbeat import beat
from pg_ingest.postgres.plugin import LogPlugin, PgOutput
from pg_ingest.postgres.publication import EVERY_OPERATION, Publication, read_publication
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import Slot, flushed_lsn, locked_slot, read_slot
from pg_ingest.postgres.writers import wait_for_writers
from pg_ingest.publish_log import (
    Terms,
    chosen_of,
    invalid_filters,
    publish,
    terms_of,
    terms_of_whole,
    unpublishable,
)
from pg_ingest.table import Table, TableId

log = logging.getLogger(__name__)

_ATTENTIVE = {14: 140018, 15: 150013, 16: 160009, 17: 170005}
"""By major version, the first that tells running transactions about a changed publication.

Source: the release notes of 15.14, about a fix that went into 13 to 18: "Our previous round of minor releases
included a bug fix" by which decoding responds to the invalidations of other transactions (commit 4909b38af0).
That round was 14.18, 15.13, 16.9 and 17.5. 13.21 got another patch, which does not reach a transaction that
is being decoded, so 13 is not here.
"""


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
        run = _Capture(session, change_log(state_dir, server.source, database), server, slot)
        return run.run({replication.table: replication for replication in replications})


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
    server: Server
    slot: str
    failures: dict[TableId, PgIngestError] = field(default_factory=dict)
    replications: Mapping[TableId, Replication] = field(default_factory=dict)
    terms: Terms = field(default_factory=lambda: Terms({}, {}, {}))
    listing: Listing | None = None
    notes: list[str] = field(default_factory=list)

    def run(self, replications: Mapping[TableId, Replication]) -> LogCapture:
        self.replications = replications
        wanted = sorted(replications)
        upto = flushed_lsn(self.session)
        tables = self._tables(wanted)
        absent = frozenset(set(wanted) - set(tables))
        if not tables and self._untouched():
            return self._nothing(upto, absent)
        there = [table for table in tables.values() if table.id not in self.failures]
        if self.server.config.log.plugin is Plugin.PGOUTPUT:
            members = _members(self._publish(there))
        else:
            members = self._list(there, upto)
        begun_at, captured = self._captured()
        published = [tables[each] for each in sorted(members.tables & tables.keys())]
        joined = [table for table in published if table.id not in self.failures]
        followed, more = self._followed(joined)
        slot = read_slot(self.session, self.slot)
        captured = _sum(captured, more)
        return LogCapture(
            database=self.session.database,
            captured=captured,
            begun_at=begun_at,
            tables=tables,
            since={table: Lsn(entry.since) for table, entry in followed.items()},
            failures=self.failures,
            absent=absent,
            slot=slot,
            behind=max(0, flushed_lsn(self.session) - captured.position),
            notes=(*members.notes, *self.notes),
            chosen=self._chosen,
            filtered=frozenset(t for t, entry in followed.items() if entry.filter is not None),
            operations=members.operations,
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
            failures=self.failures,
            absent=absent,
            slot=None,
            behind=0,
        )

    def _tables(self, wanted: Sequence[TableId]) -> dict[TableId, Table]:
        """Those that exist, also those that we may not read: the log tells their changes all the same."""
        found = read_database(self.session, only=wanted).tables if wanted else ()
        tables = {table.id: table for table in found}
        for table_id in set(wanted) - set(tables):
            self.failures[table_id] = SourceTableChanged(
                f"table {table_id} does not exist in database {self.session.database}",
                detail=f"user {self.session.role} on {self.session.source}",
                hint="dropped or renamed? run `pg-ingest discover` and look at `tables` in the"
                " configuration",
            )
        return tables

    def _publish(self, tables: Sequence[Table]) -> Publication:
        """Bring the publication in step; whoever is not in it for good is not followed any more."""
        name = self.server.config.log.publication
        now = read_publication(self.session, name)
        self.failures.update(unpublishable(self.session, now, tables, self.replications))
        good = {table.id: table for table in tables if table.id not in self.failures}
        self.terms = terms_of(self.session, now, good.values(), self.replications)
        kept = self._forget(good, frozenset() if now is None else now.tables)
        new = [table for table in good.values() if table.id not in kept]
        for table, error in invalid_filters(self.session, new, self.replications).items():
            self.failures[table] = error
            del good[table]
        publication, refused = publish(self.session, name, now, good, self.terms, kept)
        self.terms = terms_of(self.session, publication, good.values(), self.replications)
        self.failures.update(refused)
        return publication

    def _list(self, tables: Sequence[Table], upto: Lsn) -> _Members:
        """Decide what wal2json lists; a table that may have been listed by another name is not followed."""
        self._joined_slot()
        self.listing = list_tables(self.session, self.slot, tables, self.replications, upto)
        self.failures.update(self.listing.failures)
        good = {table.id: table for table in tables if table.id not in self.failures}
        self.terms = terms_of_whole(good.values(), self.replications)
        kept = self._forget(good, good.keys())
        new = [table for table in good.values() if table.id not in kept]
        self.failures.update(invalid_filters(self.session, new, self.replications))
        return _Members(frozenset(good.keys() - self.failures.keys()))

    def _mark(self, table: TableId) -> str:
        return "" if self.listing is None else self.listing.mark(table)

    def _forget(
        self, good: Mapping[TableId, Table], members: Collection[TableId]
    ) -> Mapping[TableId, Followed]:
        followed = read_followed(self.changelog)
        kept = {
            table: entry
            for table, entry in followed.items()
            if table in members
            and table in good
            and good[table].oid == entry.oid
            and entry.mark == self._mark(table)
            and self.terms.hold(self.session, good[table], entry)
        }
        if kept != followed:
            write_followed(self.changelog, kept)
        return kept

    @property
    def _chosen(self) -> Mapping[TableId, Chosen]:
        found = {table: chosen_of(one) for table, one in self.replications.items()}
        return {table: chosen for table, chosen in found.items() if chosen != Chosen()}

    def _joined_slot(self) -> Manifest:
        wanted = self.server.config.log.start_lsn
        start = None if wanted is None else Lsn.parse(wanted)
        return join_slot(self.session, self.changelog, self.slot, start)

    def _captured(self) -> tuple[Lsn, Captured]:
        manifest = self._joined_slot()
        self._beat(manifest.captured_at)
        plugin: LogPlugin = PgOutput(self.server.config.log.publication)
        upto = None
        if self.listing is not None:
            plugin, upto = self.listing.plugin(manifest), self.listing.upto
        captured = capture(self.session, self.changelog, plugin, manifest, self._chosen, upto)
        return Lsn(manifest.position), captured

    def _beat(self, last: float) -> None:
        """Write something where nobody else may have, so that the log of an idle server goes on.

        Where that fails for good, the notes say so and the capture goes on: it moves the slot all the same.
        """
        wanted = self.server.config.log.heartbeat
        if wanted is None or time.time() - last < wanted.seconds:
            return
        try:
            beat(self.session, None if wanted.table is None else TableId.parse(wanted.table))
        except PersonMustAct as error:
            self.notes.append(f"no heartbeat: {error.message} ({error.detail}); {error.hint}")
            log.error("no heartbeat: %s", error)

    def _followed(
        self, tables: Sequence[Table]
    ) -> tuple[Mapping[TableId, Followed], Captured | None]:
        """All that are followed now, and what was captured on the way."""
        followed = read_followed(self.changelog)
        joining = [table for table in tables if table.id not in followed]
        if not joining:
            return followed, None
        joining, again = self._settled(joining), None
        if self.listing is None and not _attentive(self.session.server_version):
            _, again = self._captured()
            joining = self._settled(joining)
        since = _insert_lsn(self.session)
        new = {
            table.id: replace(self.terms.entry(table, since), mark=self._mark(table.id))
            for table in joining
        }
        if new:
            write_followed(self.changelog, {**followed, **new})
            log.info("followed: tables=%d since=%s", len(new), since)
        return {**followed, **new}, again

    def _settled(self, tables: Sequence[Table]) -> list[Table]:
        """Those to which nobody writes any more who wrote when this began."""
        busy = wait_for_writers(self.session, tables, self.server.config.limits.lock_timeout)
        self.failures.update(busy)
        return [table for table in tables if table.id not in busy]


def _attentive(server_version: int) -> bool:
    major = server_version // 10000
    return major > max(_ATTENTIVE) or server_version >= _ATTENTIVE.get(major, 1 << 31)


def _insert_lsn(session: Session) -> Lsn:
    with session.snapshot() as snapshot:
        return snapshot.lsn


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


@dataclass(frozen=True, slots=True)
class _Members:
    """The tables that the log carries, and what of them."""

    tables: frozenset[TableId]
    operations: frozenset[str] = EVERY_OPERATION
    notes: tuple[str, ...] = ()


def _members(publication: Publication) -> _Members:
    missing = publication.missing_operations
    note = f"publication {publication.name} does not carry {', '.join(missing)}"
    return _Members(publication.tables, publication.operations, (note,) if missing else ())
