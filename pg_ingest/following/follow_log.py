"""Which tables the log of one source database carries, and since when each of them is followed for good.

When a table joins. A transaction that began to write before the table was in the publication is not decoded for
it, although it commits later. So after the publication has the table, we wait until all transactions that are
writing to it have ended; whoever writes later is decoded, and whoever has ended is seen by every snapshot from
then on. From that position on the table is *followed* (`changelog/followed.py`).

On a standby nobody sees who writes. There the waiting is left to the snapshots, each of which waits until all
transactions have ended that ran when it was asked for (`postgres/anchor.py`); so a table is followed as soon as
the publication has it. A promotion ends that: from then on snapshots are ordinary ones, and who is left (only a
prepared transaction can be) is waited for once more.

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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pg_ingest.changelog.capture import Captured
from pg_ingest.changelog.followed import Followed, read_followed, write_followed
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.config.selection import Replication
from pg_ingest.errors import PgIngestError, SourceTableChanged
from pg_ingest.following.list_log import Listing, list_tables
from pg_ingest.following.publish_log import (
    Terms,
    invalid_filters,
    publish,
    terms_of,
    terms_of_whole,
    unpublishable,
)
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.anchor import wait_for_all
from pg_ingest.postgres.catalog import read_database
from pg_ingest.postgres.log_end import flushed_lsn
from pg_ingest.postgres.publication import EVERY_OPERATION, Publication, read_publication
from pg_ingest.postgres.publication_marks import publication_marks
from pg_ingest.postgres.publishable import endangered
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.writers import wait_for_writers
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
class Members:
    """The tables that the log carries, and what of them."""

    tables: frozenset[TableId]
    operations: frozenset[str] = EVERY_OPERATION
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class LogTables:
    """The tables of one capture, with the slot locked.

    Attributes:
        replications: all that are wanted.
        failures: why some of them cannot be replicated now.
        listing: what wal2json lists, None with a publication.
    """

    session: Session
    changelog: ChangeLog
    replications: Mapping[TableId, Replication]
    failures: dict[TableId, PgIngestError] = field(default_factory=dict)
    listing: Listing | None = None
    _terms: Terms = field(default_factory=lambda: Terms({}, {}, {}))
    _marks: Mapping[TableId, str] = field(default_factory=dict)

    def find(self) -> dict[TableId, Table]:
        """Those that exist, also those that we may not read: the log tells their changes all the same."""
        wanted = sorted(self.replications)
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

    def publish(self, found: Mapping[TableId, Table]) -> Members:
        """Bring the publication in step; whoever is not in it for good is not followed any more."""
        tables = [table for table in found.values() if table.id not in self.failures]
        name = self.session.log.publication
        now = read_publication(self.session, name)
        self.failures.update(unpublishable(self.session, now, tables, self.replications))
        good = {table.id: table for table in tables if table.id not in self.failures}
        self._terms = terms_of(self.session, now, good.values(), self.replications)
        self._marks = self._memberships(good)
        kept = self._forget(good, frozenset() if now is None else now.tables)
        new = [table for table in good.values() if table.id not in kept]
        for table, error in invalid_filters(self.session, new, self.replications).items():
            self.failures[table] = error
            del good[table]
        publication, refused = publish(self.session, name, now, good, self._terms, kept)
        self._terms = terms_of(self.session, publication, good.values(), self.replications)
        self._marks = self._memberships(good)
        self.failures.update(refused)
        risky = endangered(self.session, publication, good.values())
        return _members(publication, [f"{e.message}; {e.hint}" for _, e in sorted(risky.items())])

    def enlist(self, slot: str, found: Mapping[TableId, Table], upto: Lsn) -> Members:
        """Decide what wal2json lists; a table that may have been listed by another name is not followed.

        The slot must exist; `upto`: where the log ended before the catalogue was asked.
        """
        tables = [table for table in found.values() if table.id not in self.failures]
        self.listing = list_tables(self.session, slot, tables, self.replications, upto)
        self.failures.update(self.listing.failures)
        good = {table.id: table for table in tables if table.id not in self.failures}
        self._terms = terms_of_whole(good.values(), self.replications)
        kept = self._forget(good, good.keys())
        new = [table for table in good.values() if table.id not in kept]
        self.failures.update(invalid_filters(self.session, new, self.replications))
        return Members(frozenset(good.keys() - self.failures.keys()))

    def _memberships(self, tables: Mapping[TableId, Table]) -> Mapping[TableId, str]:
        oids = [table.oid for table in tables.values()]
        found = publication_marks(self.session, self.session.log.publication, oids)
        return {table.id: found.get(table.oid, "") for table in tables.values()}

    def _mark(self, table: TableId) -> str:
        return self._marks[table] if self.listing is None else self.listing.mark(table)

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
            and self._terms.hold(self.session, good[table], entry)
        }
        if kept != followed:
            write_followed(self.changelog, kept)
        return kept

    def follow(
        self, tables: Sequence[Table], capture: Callable[[], Captured]
    ) -> tuple[Mapping[TableId, Followed], Captured | None]:
        """All that are followed now, and what was captured on the way."""
        followed = read_followed(self.changelog)
        standby = self.session.is_standby
        joining = [
            table
            for table in tables
            if table.id not in followed or (followed[table.id].unsettled and not standby)
        ]
        if not joining:
            return followed, None
        joining, again = self._settled(joining), None
        if self.listing is None and not _attentive(self.session.server_version):
            again = capture()
            joining = self._settled(joining)
        since = _end_of_log(self.session)
        new = {
            table.id: self._entry(table, followed.get(table.id), since, unsettled=standby)
            for table in joining
        }
        if new:
            write_followed(self.changelog, {**followed, **new})
            log.info("followed: tables=%d since=%s", len(new), since)
        return {**followed, **new}, again

    def _entry(
        self, table: Table, known: Followed | None, since: Lsn, *, unsettled: bool
    ) -> Followed:
        """What is remembered of a table that is followed from here on, or was on a standby before."""
        if known is not None:
            return replace(known, unsettled=unsettled)
        entry = self._terms.entry(table, since)
        return replace(entry, mark=self._mark(table.id), unsettled=unsettled)

    def _settled(self, tables: Sequence[Table]) -> list[Table]:
        """Those to which nobody writes any more who wrote when this began.

        On a standby, where nobody is seen to write, only as far as readings need it: until all have ended.
        """
        if self.session.is_standby:
            if not _attentive(self.session.server_version):
                wait_for_all(self.session)
            return list(tables)
        busy = wait_for_writers(self.session, tables, self.session.limits.lock_timeout)
        self.failures.update(busy)
        return [table for table in tables if table.id not in busy]


def _attentive(server_version: int) -> bool:
    major = server_version // 10000
    return major > max(_ATTENTIVE) or server_version >= _ATTENTIVE.get(major, 1 << 31)


def _end_of_log(session: Session) -> Lsn:
    if session.is_standby:
        return flushed_lsn(session)
    with session.snapshot() as snapshot:
        return snapshot.lsn


def _members(publication: Publication, notes: Sequence[str]) -> Members:
    missing = publication.missing_operations
    note = f"publication {publication.name} does not carry {', '.join(missing)}"
    said = (*((note,) if missing else ()), *notes)
    return Members(publication.tables, publication.operations, said)
