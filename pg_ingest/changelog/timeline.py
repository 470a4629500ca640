"""After a promotion: is everything that was captured part of the server's history?

A standby that takes over has the log of its primary up to some point, where its own begins. With a failover
slot (PostgreSQL 17) the slot is there too, and capturing can go on. But an asynchronous standby may have lacked
the end of the old log. Were that end captured before, then the destination has changes that this server never
had, and will not have: the same positions and transaction ids now mean others. So what is captured must end
where the old log was left, or before.

The same goes for a table's snapshot, which may have been taken after the last capture. Each bookmark knows on
which timeline its snapshot was taken and where (`joined_lsn`); one that lies behind the end of that timeline
means reading the table anew. And a table that is followed since such a position joined a publication that may
not know it: it is followed anew.

A standby is not asked. It never takes back what it has replayed, nor a slot of its own read more than that; a
standby that is made anew has lost its slots.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.followed import read_followed, write_followed
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest
from pg_ingest.errors import PersonMustAct, SlotUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.timeline import ends_of_timelines, timeline_of

log = logging.getLogger(__name__)


def on_timeline(
    session: Session, changelog: ChangeLog, manifest: Manifest, start_again: str
) -> Manifest:
    """The manifest on the server's timeline of now, durably; the slot must be locked.

    Raises SlotUnusable when the server never had some of what was captured, or does not say whether it had.
    """
    now = timeline_of(session)
    if now in (0, manifest.timeline):
        return manifest
    ends = dict(manifest.timeline_ends)
    if manifest.timeline:
        ends = _ends(session, manifest, now, start_again)
        end = ends.get(manifest.timeline, 0)
        if manifest.position > end:
            raise _lost(manifest, now, end, start_again)
        _forget_behind(changelog, end)
        log.warning(
            "the server was promoted: timeline %d was left for %d at %s, captured is up to %s",
            *(manifest.timeline, now, Lsn(end), Lsn(manifest.position)),
        )
    manifest = replace(manifest, timeline=now, timeline_ends=ends)
    changelog.commit(manifest)
    return manifest


def not_of_this_history(manifest: Manifest | None, bookmark: LogBasedBookmark) -> str:
    """Why the table's snapshot is none of the server's, in words; empty if it is, or nobody knows."""
    if manifest is None or bookmark.timeline in (0, manifest.timeline) or not manifest.timeline:
        return ""
    end = manifest.timeline_ends.get(bookmark.timeline, 0)
    if Lsn.parse(bookmark.joined_lsn) <= end:
        return ""
    return (
        f"its snapshot was taken at {bookmark.joined_lsn} of timeline {bookmark.timeline}, which the server"
        f" left at {Lsn(end)} when it was promoted"
    )


def _ends(session: Session, manifest: Manifest, now: int, start_again: str) -> dict[int, int]:
    try:
        return {number: int(end) for number, end in ends_of_timelines(session, now).items()}
    except PersonMustAct as error:
        raise SlotUnusable(
            f"the server was promoted (timeline {now}), and does not say where it left timeline"
            f" {manifest.timeline}",
            detail=f"{error.message} ({error.detail})",
            hint="allow role and address a connection with `replication=database` (a pooler may be in the way),"
            f" so that what was captured can be compared; or {start_again}",
        ) from None


def _lost(manifest: Manifest, now: int, end: int, start_again: str) -> SlotUnusable:
    left = (
        f"timeline {now} left {manifest.timeline} at {Lsn(end)}"
        if end
        else f"timeline {now} does not come from {manifest.timeline}"
    )
    return SlotUnusable(
        "changes were captured that the server which was promoted never had",
        detail=f"{left}, captured is up to {Lsn(manifest.position)}",
        hint=f"the tables may hold rows that are lost at the source: {start_again}",
    )


def _forget_behind(changelog: ChangeLog, end: int) -> None:
    followed = read_followed(changelog)
    kept = {table: entry for table, entry in followed.items() if entry.since <= end}
    if kept != followed:
        write_followed(changelog, kept)
