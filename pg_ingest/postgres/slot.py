"""A replication slot: created, looked at, locked, advanced.

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

from psycopg import sql

from pg_ingest.errors import (
    MethodUnavailable,
    PermissionMissing,
    SlotBusy,
    SlotUnusable,
    SourceBusy,
    SourceUnreachable,
)
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.session import Session

OLDEST_VERSION = 110000
"""pg_replication_slot_advance is there from here on."""


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

    @property
    def lost(self) -> bool:
        """The server has thrown away WAL that the slot needs."""
        return self.wal_status == "lost" or self.invalidation is not None


def read_slot(session: Session, name: str) -> Slot | None:
    """The slot of that name, whatever it is, or None."""
    found = session.rows(
        "SELECT to_jsonb(s), pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::int8"
        " FROM pg_replication_slots AS s WHERE slot_name = %s",
        (name,),
        what=f"looking at slot {name}",
    )
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
        invalidation=row.get("invalidation_reason"),
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
    if slot.lost or slot.confirmed_lsn is None:
        raise _unusable(
            slot,
            "is lost: the server has thrown away WAL that it needs",
            f"SELECT pg_drop_replication_slot('{name}'), remove this database's change log and reset its"
            " log-based tables; raise max_slot_wal_keep_size or sync more often",
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


def create_slot(session: Session, name: str, plugin: str) -> Slot:
    """Create a slot and return it; everything that commits from now on will be read from it.

    The server first waits for all running transactions that write; `limits.query_timeout` ends that wait.
    Raises MethodUnavailable where the server is not set up for it, PermissionMissing.
    """
    check_server(session)
    try:
        session.rows(
            "SELECT pg_create_logical_replication_slot(%s, %s)",
            (name, plugin),
            what=f"creating slot {name}",
        )
    except SourceBusy as error:
        if "sqlstate 58P01" not in error.detail:  # undefined_file: its library is not there
            raise
        major = session.server_version // 10000
        raise MethodUnavailable(
            f"the output plugin {plugin} is not installed on this server",
            detail=error.detail,
            hint=f"install it (Debian and Ubuntu: postgresql-{major}-{plugin}; Amazon RDS has it), or set"
            " `log.plugin: pgoutput`, which is part of PostgreSQL",
        ) from None
    except PermissionMissing as error:
        if "output plugin" in error.detail:
            raise PermissionMissing(
                error.message, detail=error.detail, hint=allow_plugin(plugin)
            ) from None
        raise PermissionMissing(
            error.message,
            detail=error.detail,
            hint=f"ALTER ROLE {quoted(session.role)} REPLICATION; (on Amazon RDS: GRANT rds_replication TO"
            f" {quoted(session.role)};)",
        ) from None
    slot = usable_slot(session, name, plugin)
    if slot is None:
        raise SlotUnusable(
            f"slot {name} vanished directly after it was created", hint="does somebody drop slots?"
        )
    return slot


_ALLOWED = """
SELECT r.rolsuper, coalesce(pg_has_role(g.oid, 'usage'), false),
  (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'output_plugin_libraries')
FROM pg_catalog.pg_roles AS r
LEFT JOIN pg_catalog.pg_roles AS g ON g.rolname = 'pg_read_all_settings'
WHERE r.rolname = current_user
"""


def plugin_allowed(session: Session, plugin: str) -> bool | None:
    """Whether our role may use an output plugin; None where it may not know.

    Newer minor versions let nobody, superusers included, use others than those that
    `output_plugin_libraries` names, a setting that only `pg_read_all_settings` shows.
    """
    ((superuser, sees, listed),) = session.rows(_ALLOWED, what="looking at the output plugins")
    if listed is None:
        return True if superuser or sees else None
    return plugin in (name.strip().strip('"') for name in listed.split(","))


def allow_plugin(plugin: str) -> str:
    """The statement that allows it to all roles with REPLICATION; each name is a text of its own."""
    names = sql.SQL(", ").join(map(sql.Literal, ("pgoutput", plugin))).as_string(None)
    return f"ALTER SYSTEM SET output_plugin_libraries = {names}; SELECT pg_reload_conf();"


def check_kind(session: Session) -> None:
    """Raise MethodUnavailable where the server is of a kind or version whose log cannot be followed."""
    if session.is_standby:
        raise MethodUnavailable(
            "log-based replication from a standby is not possible",
            detail="a standby does not list the transactions that run on its primary, so the first copy"
            " of a table could not be joined to the log without a gap",
            hint="connect to the primary",
        )
    if session.server_version < OLDEST_VERSION:
        raise MethodUnavailable(
            "log-based replication needs PostgreSQL 11 or newer",
            detail="older servers cannot advance a slot to a position",
            hint="choose another method",
        )


def check_server(session: Session) -> None:
    """Raise MethodUnavailable where no slot can be created on this server."""
    check_kind(session)
    ((level, limit, used),) = session.rows(
        "SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int,"
        " (SELECT count(*) FROM pg_replication_slots)",
        what="looking at the server's settings",
    )
    if level != "logical":
        raise MethodUnavailable(
            f"the server's wal_level is {level}",
            hint="ALTER SYSTEM SET wal_level = logical; and restart it (on Amazon RDS:"
            " rds.logical_replication = 1), or choose another method",
        )
    if used >= limit:
        raise MethodUnavailable(
            f"all {limit} replication slots of the server are taken",
            hint="drop those that nobody needs, or raise max_replication_slots and restart",
        )


def may_replicate(session: Session) -> bool:
    """Whether our role may create and read slots: REPLICATION, a superuser, or Amazon's rds_replication."""
    ((may,),) = session.rows(
        "SELECT bool_or(r.rolreplication OR r.rolsuper OR pg_has_role(g.oid, 'member'))"
        " FROM pg_roles AS r LEFT JOIN pg_roles AS g ON g.rolname = 'rds_replication'"
        " WHERE r.rolname = current_user",
        what="looking at our role",
    )
    return bool(may)


def flushed_lsn(session: Session) -> Lsn:
    """How far the server's log is safe on its disk."""
    ((text,),) = session.rows(
        "SELECT pg_current_wal_flush_lsn()::text", what="asking for the WAL position"
    )
    return Lsn.parse(text)


def system_identifier(session: Session) -> int:
    """The cluster's identity, which `initdb` draws and every physical copy of it shares."""
    ((number,),) = session.rows(
        "SELECT system_identifier FROM pg_control_system()", what="asking who the server is"
    )
    return int(number)


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
    """Be the only one of us that works with this slot; raises SlotBusy when another process does."""
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
