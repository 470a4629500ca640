"""Snapshots of a standby with their place in the log.

A standby's own snapshots do not list the transactions that run (pg_current_snapshot() names none there), so
whether one sees a logged transaction cannot be told by its id. But a slot that is made can export a snapshot,
and that sees exactly what committed before the slot's position: a transaction is in it if the record of its
commit begins before, and is decoded from the slot if not (SnapBuildExportSnapshot and SnapBuildXactNeedsSkip,
src/backend/replication/logical/snapbuild.c; both look at the beginning of the record, which is what Begin
messages tell as commit LSN). The slot is temporary and only there for that; what is captured comes from ours.

Nobody is left between. The position is where all transactions have ended that ran when the slot was asked
for (and a snapshot is never taken from what was built for another slot: `building_full_snapshot`). So whoever
commits behind it began later, and finds the catalogue, publications too, as the standby had it before.

**What it shall see must still be there.** A standby may replay the removal of a row version when none of
its sessions can see it any more. Sessions count, slots do not (ResolveRecoveryConflictWithSnapshot,
src/backend/storage/ipc/standby.c), and the exporting one counts only once it has exported. By then the standby
may have replayed some more of the log, and a version that the snapshot has to see is gone, without an error:
under three writers, with hot_standby_feedback off, 925 of 969 exported snapshots lacked rows (PostgreSQL 18.6).
So an ordinary snapshot is open before the slot is asked for, and until the export is done: what the exported
one has to see was not removed before it, and is not removed while it lives. That it does is asked at the end; a
standby that lost its patience has ended it, and then the anchor is given up.

With hot_standby_feedback on, the primary removes nothing that a snapshot of the standby has to see, and it does
not come to that. With it off it nearly always would, and the standby's slots would be lost with a vacuum of the
primary's catalogue; so then nothing is begun (`check_feedback`).

Whoever takes the snapshot over has to do it while the anchor is held; then it is that session's own, and can be
shared with others like any other (`Session.export_snapshot`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from pg_ingest.errors import MethodUnavailable
from pg_ingest.postgres.protocol_slot import make_slot
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Anchor

ANCHOR_VERSION = 160000
"""Standbys can decode their log from here on."""


def check_feedback(session: Session) -> None:
    """Raise MethodUnavailable where a standby does not tell its primary what it must not remove."""
    ((feedback, interval),) = session.rows(
        "SELECT current_setting('hot_standby_feedback')::bool,"
        " (SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'wal_receiver_status_interval')",
        what="looking at the standby's settings",
    )
    if not feedback or not interval:
        name, value = ("wal_receiver_status_interval", "10s") if feedback else _FEEDBACK
        raise MethodUnavailable(
            f"the standby does not tell its primary what it needs: {name} is {'0' if feedback else 'off'}",
            detail="the primary's vacuum would take away rows, of the catalogue too, that the standby needs to"
            " decode its log: its slots would be lost",
            hint=f"on the standby: ALTER SYSTEM SET {name} = '{value}'; SELECT pg_reload_conf();",
        )


_FEEDBACK = ("hot_standby_feedback", "on")


@contextmanager
def anchored(session: Session) -> Iterator[Anchor]:
    """A snapshot of the session's database as of now, for as long as the block lasts.

    The session must be in no transaction, and is in none afterwards; the anchor outlives it. It needs a
    connection and a slot more. Raises as `make_slot`, and SourceBusy or SourceUnreachable when the standby
    could not wait with its replay; MethodUnavailable as `check_feedback`.
    """
    check_feedback(session)
    connection = session.replication_connection()
    try:
        with session.snapshot() as before:
            name = f"pg_ingest_{secrets.token_hex(8)}"
            made = make_slot(
                connection, session, name, session.log.plugin, temporary=True, export=True
            )
            session.rows("SELECT 1", what="looking whether the standby kept what a snapshot sees")
        yield Anchor(made.snapshot, made.lsn, before.lsn)
    finally:
        connection.close()


def wait_for_all(session: Session) -> None:
    """Wait until all transactions have ended that run at the primary; raises as `anchored`."""
    with anchored(session):
        pass
