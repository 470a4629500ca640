"""A change log and the slot that fills it: made together, and recognised as belonging together.

After a promotion they still do if all that was captured is part of the server's history (`timeline.py`).

The slot is never ahead of the log (`capture.py`). If it is, somebody else moved it, changes are lost to us, and
only a person can say what to do. The same holds for a slot that is gone, and for another server.
"""

from __future__ import annotations

import logging
import time

from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest
from pg_ingest.changelog.timeline import on_timeline
from pg_ingest.errors import SlotUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.log_end import flushed_lsn, system_identifier
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import usable_slot
from pg_ingest.postgres.slot_creation import create_slot
from pg_ingest.postgres.timeline import timeline_of

log = logging.getLogger(__name__)


def join_slot(
    session: Session, changelog: ChangeLog, slot: str, start: Lsn | None = None
) -> Manifest:
    """The log's manifest, after making sure that log and slot belong together.

    Before the first capture: creates the slot, or takes an existing one as it is, and begins the log at
    its position or, for taking over from somebody else, at `start`: what committed before is left out.
    Afterwards `start` means nothing. The publication must exist. The slot must be locked
    (`postgres.slot.locked_slot`). Raises SlotUnusable, SlotBusy, ChangeLogDamaged, and what `create_slot`
    raises.
    """
    manifest = changelog.manifest()
    plugin = session.log.plugin
    found = usable_slot(session, slot, plugin)
    server = system_identifier(session)
    if manifest is not None:
        _check_server(manifest, server)
        manifest = on_timeline(session, changelog, manifest, _START_AGAIN)
        _check_slot(manifest, slot, None if found is None else found.confirmed_lsn)
        if manifest.position > flushed_lsn(session):
            raise SlotUnusable(
                "the server's log ends before what was captured",
                detail=f"captured up to {Lsn(manifest.position)}",
                hint="was the server restored from a backup? Then " + _START_AGAIN,
            )
        return manifest
    if start is not None:
        _check_start(session, slot, start, None if found is None else found.confirmed_lsn)
    found = found or create_slot(session, slot, plugin)
    position = int(start or found.confirmed_lsn or 0)
    manifest = Manifest(
        source=changelog.source,
        database=changelog.database,
        slot=slot,
        system_identifier=server,
        begin=position,
        position=position,
        captured_at=time.time(),
        timeline=timeline_of(session),
    )
    changelog.commit(manifest)
    log.info("change log begins: slot=%s lsn=%s", slot, Lsn(position))
    return manifest


def _check_start(session: Session, slot: str, start: Lsn, confirmed: Lsn | None) -> None:
    """Raise SlotUnusable unless the slot can be read from `start` on."""
    end = flushed_lsn(session)
    if confirmed is None:
        what = "there is no such slot"
    elif start < confirmed:
        what = f"it stands at {confirmed} already: what was before is gone"
    elif start > end:
        what = f"the server's log ends at {end}"
    else:
        return
    raise SlotUnusable(
        f"slot {slot} cannot be taken over at {start}",
        detail=what,
        hint="`log.start_lsn` is for a slot that another tool has read so far; without it a new slot begins"
        " now, and an existing one where it stands",
    )


_START_AGAIN = (
    "drop the slot, remove the change log's folder and reset the log-based tables of this database"
)


def _check_server(manifest: Manifest, server: int) -> None:
    if manifest.system_identifier != server:
        raise SlotUnusable(
            "this is another server than the one the change log was captured from",
            detail=f"system identifier {server} instead of {manifest.system_identifier}",
            hint=f"connect to the right one, or {_START_AGAIN}",
        )


def _check_slot(manifest: Manifest, slot: str, confirmed: Lsn | None) -> None:
    if manifest.slot != slot:
        raise SlotUnusable(
            f"the change log was captured from slot {manifest.slot}, not from {slot}",
            hint=f"set `log.slot` back, or {_START_AGAIN}",
        )
    if confirmed is None:
        raise SlotUnusable(
            f"slot {slot} is gone",
            detail=f"captured up to {Lsn(manifest.position)}; what committed since is lost to the log",
            hint="who dropped it, or was the server replaced by a standby (only a failover slot is there too,"
            f" since PostgreSQL 17)? Then {_START_AGAIN}",
        )
    if confirmed > manifest.position:
        raise SlotUnusable(
            f"slot {slot} is ahead of the change log",
            detail=f"the slot stands at {confirmed}, captured is up to {Lsn(manifest.position)}:"
            " somebody else read the slot, or an older change log was restored",
            hint=f"let nobody else read this slot; now {_START_AGAIN}",
        )
