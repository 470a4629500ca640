"""Throw away what the change log need not keep any more: applied by every table, and older than `log.keep`.

Where the log is larger than `log.keep_size`, younger changes go too, the oldest first. Neither limit touches
a change that a table has still to apply.

What a table has applied is what its bookmark says, and what the snapshot behind the bookmark has seen. A
segment is only thrown away as a whole and never before that; so a table that fails keeps its changes for
as long as it takes, and so does one that is being loaded in chunks. Those of tables that are not replicated
any more go by age alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.handover import still_to_apply
from pg_ingest.changelog.log import ChangeLog, Place
from pg_ingest.changelog.manifest import Segment
from pg_ingest.changelog.segments import read_segment
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.chunks import KeepsChunks
from pg_ingest.destinations.destination import Destination, StreamId
from pg_ingest.following.capture_log import change_log
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.slot import locked_slot
from pg_ingest.table import TableId

_EVERYTHING: Place = (1 << 63, 0)


def retain_log(
    server: Server,
    destination: Destination,
    state_dir: Path,
    database: str,
    replications: Sequence[Replication],
) -> tuple[Segment, ...]:
    """Remove segments of one database's change log that are done with; those that were removed.

    `replications` are all log-based tables of the source. Connects only when there is something to
    remove. Raises SlotBusy, DestinationBusy, SourceUnreachable, ChangeLogDamaged; nothing is lost then.
    """
    changelog = change_log(state_dir, server.source, database)
    manifest = changelog.manifest()
    if manifest is None:
        return ()
    config = server.config.log
    since = time.time() - config.keep.total_seconds()
    full = config.keep_size is not None and manifest.size > config.keep_size
    old = [s for s in manifest.segments if full or s.written_at < since]
    tables = {segment.table for segment in old}
    followed = {replication.table for replication in replications}
    applied = {
        table: _applied(destination, changelog, database, table, old)
        if table in followed
        else _EVERYTHING
        for table in tables
    }
    done = [s for s in old if (s.last_lsn, s.last_sequence) <= applied[s.table]]
    if not done:
        return ()
    slot = config.slot_name(database)
    with server.session(database, purpose="capture") as session, locked_slot(session, slot):
        return changelog.retain(applied, since=since, max_bytes=config.keep_size)


def _applied(
    destination: Destination,
    changelog: ChangeLog,
    database: str,
    table: TableId,
    segments: Sequence[Segment],
) -> Place:
    """The last change of the table, among those in `segments`, that need not be looked at any more."""
    stream = StreamId(changelog.source, database, table.schema, table.name)
    bookmark = destination.bookmark(stream)
    unfinished = isinstance(destination, KeepsChunks) and destination.chunked_load(stream)
    if unfinished or not isinstance(bookmark, LogBasedBookmark):
        return 0, -1
    place = int(Lsn.parse(bookmark.lsn)), bookmark.sequence
    for segment in segments:
        if segment.table != table or (segment.last_lsn, segment.last_sequence) <= place:
            continue
        _, rows = read_segment(changelog.segment_folder, segment)
        if len(still_to_apply(pl.DataFrame(rows), bookmark)):
            return place
        place = segment.last_lsn, segment.last_sequence
    return place
