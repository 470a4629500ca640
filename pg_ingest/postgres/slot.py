"""A replication slot: looked at, locked, advanced, dropped.

The slot is never our memory. It only keeps the server from throwing away what we have not made durable, so
it may be behind what we have (a crash before `advance`), never ahead of it.

Two readers of one slot would each take what the other needs. The server refuses a second one only while
the first is inside a call, so we hold an advisory lock in the source's database for as long as we work
with the slot: it needs no shared folder, and a process that is killed gives it up with its connection.

Facts: manual, "Replication Management Functions" and pg_replication_slots; src/backend/replication/slot.c.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pg_ingest.errors import MethodUnavailable, SlotBusy, SlotUnusable, SourceUnreachable
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.session import Session


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of pg_replication_slots.

    Attributes:
        database: None for a physical slot, as is `plugin`.
        active_pid: the server process that is reading it just now.
        restart_lsn: WAL from here on is kept.
        confirmed_lsn: everything that committed before is done with.
        behind: bytes of WAL between `restart_lsn` and now.
        wal_status: `reserved`, `extended`, `unreserved` or `lost`; None before version 13.
        safe_wal_size: bytes that may be written before the slot is in danger, None for no limit.
        inactive_since: ISO 8601, None while active and before version 17.
        invalidation: why the server gave the slot up, if it did and says so.
        synced: it is the copy of a slot of the primary (version 17), kept for the case of a promotion.
    """

    name: str
    plugin: str | None
    database: str | None
    temporary: bool
    active_pid: int | None
    restart_lsn: Lsn | None
    confirmed_lsn: Lsn | None
    behind: int
    wal_status: str | None = None
    safe_wal_size: int | None = None
    inactive_since: str | None = None
    invalidation: str | None = None
    synced: bool = False

    @property
    def lost(self) -> bool:
        """The server has given the slot up: it cannot be read any more."""
        return self.wal_status == "lost" or self.invalidation is not None

    @property
    def loss(self) -> str:
        """Why it is lost, if it is."""
        return self._loss.why

    @property
    def remedy(self) -> str:
        """What keeps the server from giving it up again."""
        return self._loss.remedy

    @property
    def _loss(self) -> _Loss:
        return _LOSSES.get(self.invalidation or "", _LOSSES["wal_removed"])


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why a server gives a slot up, and what keeps it from doing so again."""

    why: str
    remedy: str


_CONFLICT = "rows_removed"
_LOSSES = {
    "wal_removed": _Loss(
        "the server has thrown away WAL that it needs",
        "raise max_slot_wal_keep_size or sync more often",
    ),
    _CONFLICT: _Loss(
        "the standby has replayed the removal of rows of the catalogue that it needs",
        "set hot_standby_feedback = on there, and let it use a slot of its primary (primary_slot_name), so that"
        " this also holds while it is disconnected",
    ),
    "wal_level_insufficient": _Loss(
        "the primary's wal_level was not logical for a while",
        "set wal_level = logical on the primary and keep it",
    ),
    "idle_timeout": _Loss(
        "nobody has read it for longer than idle_replication_slot_timeout",
        "raise idle_replication_slot_timeout or sync more often",
    ),
}
"""By `invalidation_reason` of version 17 and newer; 16 only tells `conflicting` from the rest."""
_SLOT = """
SELECT to_jsonb(s), pg_wal_lsn_diff(
  CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn
)::int8
FROM pg_replication_slots AS s WHERE slot_name = %s
"""


def read_slot(session: Session, name: str) -> Slot | None:
    """The slot of that name, whatever it is, or None."""
    found = session.rows(_SLOT, (name,), what=f"looking at slot {name}")
    return _slot(*found[0]) if found else None


def _slot(row: dict[str, Any], behind: int | None) -> Slot:
    """From the row as JSON, because each version has more columns."""
    return Slot(
        name=row["slot_name"],
        plugin=row["plugin"],
        database=row["database"],
        temporary=row["temporary"],
        active_pid=row["active_pid"],
        restart_lsn=_lsn(row["restart_lsn"]),
        confirmed_lsn=_lsn(row["confirmed_flush_lsn"]),
        behind=behind or 0,
        wal_status=row.get("wal_status"),
        safe_wal_size=row.get("safe_wal_size"),
        inactive_since=row.get("inactive_since"),
        invalidation=row.get("invalidation_reason")
        or (_CONFLICT if row.get("conflicting") else None),
        synced=row.get("synced", False),
    )


def _lsn(text: str | None) -> Lsn | None:
    return None if text is None else Lsn.parse(text)


def usable_slot(session: Session, name: str, plugin: str) -> Slot | None:
    """The slot if we can read it, None if it does not exist.

    Raises SlotUnusable when it is lost, temporary, of another plugin or database, SlotBusy when somebody
    else is reading it.
    """
    slot = read_slot(session, name)
    if slot is None:
        return None
    if slot.plugin is None or slot.database is None:
        raise _unusable(slot, "is a physical slot", "name another one in `log.slot`")
    if slot.plugin != plugin:
        raise _unusable(
            slot,
            f"has the plugin {slot.plugin}, not {plugin}",
            "name another one in `log.slot`, or set `log.plugin`",
        )
    if slot.database != session.database:
        raise _unusable(
            slot,
            f"belongs to database {slot.database}, not to {session.database}",
            "write {database} into `log.slot`, so that each database has its own",
        )
    if slot.temporary:
        raise _unusable(slot, "is temporary", "name another one in `log.slot`")
    if slot.synced and session.is_standby:
        raise _unusable(
            slot,
            "is kept by the standby as a copy of its primary's, and can be read only after a promotion",
            "name another one in `log.slot` to read from the standby, or connect to the primary",
        )
    if slot.lost or slot.confirmed_lsn is None:
        raise _unusable(
            slot,
            f"is lost: {slot.loss}",
            f"SELECT pg_drop_replication_slot('{name}'), remove this database's change log and reset its"
            f" log-based tables; {slot.remedy}",
        )
    if slot.active_pid is not None:
        raise SlotBusy(
            f"slot {name} is being read by somebody else",
            detail=f"server process {slot.active_pid}; one reader a slot",
            hint="it is tried again; stop the other reader, or name another slot in `log.slot`",
        )
    return slot


def _unusable(slot: Slot, what: str, hint: str) -> SlotUnusable:
    facts = (
        f"plugin {slot.plugin}, database {slot.database}, wal_status {slot.wal_status},"
        f" restart_lsn {slot.restart_lsn}, invalidation {slot.invalidation}"
    )
    return SlotUnusable(f"slot {slot.name} {what}", detail=facts, hint=hint)


def advance_slot(session: Session, name: str, to: Lsn) -> None:
    """Let the server throw away what was needed for transactions that ended before `to`.

    Does nothing when the slot is there already. Call it only after they are durable on our side.
    """
    session.rows(
        "SELECT pg_replication_slot_advance(slot_name, %s::pg_lsn) FROM pg_replication_slots"
        " WHERE slot_name = %s AND confirmed_flush_lsn < %s::pg_lsn",
        (str(to), name, str(to)),
        what=f"advancing slot {name}",
    )


def drop_slot(session: Session, name: str) -> None:
    """Drop the slot if it exists; the server keeps no WAL for it any more."""
    session.rows(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
        (name,),
        what=f"dropping slot {name}",
    )


@contextmanager
def locked_slot(session: Session, name: str) -> Iterator[None]:
    """Be the only one of us that works with this slot; raises SlotBusy when another process does.

    MethodUnavailable where a pooler would let the lock go, or keep it, with a process that is not ours.
    """
    if session.pooled and session.shares_its_process():
        raise MethodUnavailable(
            "the log cannot be followed through a connection pooler that shares its sessions",
            detail="two connections to it met the same process of the server; the lock that keeps two readers"
            " off one slot lives in a session",
            hint="connect to the database itself, or to a pool in session mode",
        )
    key = int.from_bytes(
        hashlib.sha256(f"pg_ingest slot {name}".encode()).digest()[:8], signed=True
    )
    asked = "SELECT pg_try_advisory_lock(%s)"
    if not session.rows(asked, (key,), what=f"locking slot {name}")[0][0]:
        raise SlotBusy(
            f"slot {name} is being worked with by another process of ours",
            detail=f"it holds advisory lock {key} in database {session.database}",
            hint="it is tried again when that one is done",
        )
    try:
        yield
    finally:
        with suppress(SourceUnreachable):  # a broken connection has given the lock up
            session.rows("SELECT pg_advisory_unlock(%s)", (key,), what=f"unlocking slot {name}")
