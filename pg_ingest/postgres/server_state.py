"""The server as it is now: settings, transactions that hold the log back, our role, clock.

Everything here is visible to a role without special rights, except how long transactions of other roles
have been open (`pg_stat_activity` hides it without `pg_read_all_stats`); what is hidden is counted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pg_ingest.postgres.session import Session

_WANTED = (
    "wal_level",
    "rds.logical_replication",
    "max_replication_slots",
    "max_wal_senders",
    "max_slot_wal_keep_size",
    "wal_sender_timeout",
    "max_connections",
    "superuser_reserved_connections",
    "hot_standby_feedback",
    "max_standby_streaming_delay",
    "max_standby_archive_delay",
    "restore_command",
    "primary_slot_name",
    "server_encoding",
    "transaction_timeout",
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings by name, in the server's base units (milliseconds, megabytes); absent where unknown.

    `pending`: those whose new value waits for a restart.
    """

    values: Mapping[str, str]
    pending: frozenset[str]

    def number(self, name: str) -> int | None:
        """A setting that is a whole number; None where this version does not have it."""
        value = self.values.get(name)
        return None if value is None else int(value)


def server_settings(session: Session) -> ServerSettings:
    """The settings that replication depends on."""
    rows = session.rows(
        "SELECT name, setting, coalesce((to_json(s) ->> 'pending_restart')::bool, false)"
        " FROM pg_catalog.pg_settings AS s WHERE name = ANY(%s)",
        (list(_WANTED),),
        what="looking at the server's settings",
    )
    return ServerSettings(
        {name: value for name, value, _ in rows}, frozenset(name for name, _, due in rows if due)
    )


@dataclass(frozen=True, slots=True)
class Places:
    """How many of the server's limited places are taken."""

    slots: int
    senders: int
    connections: int


def places_taken(session: Session) -> Places:
    """Replication slots, streams and connections in use, over all databases; our own among them."""
    ((slots, senders, connections),) = session.rows(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_replication_slots),"
        " (SELECT count(*) FROM pg_catalog.pg_stat_replication),"
        " (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid IS NOT NULL)",
        what="counting slots and connections",
    )
    return Places(slots, senders, connections)


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is idle in its middle, or prepared. `seconds`: since when.

    `name`: the process id of a session, the global id of a prepared transaction.
    """

    name: str
    database: str
    role: str
    seconds: float


def idle_transactions(session: Session, seconds: float) -> tuple[list[OpenTransaction], int]:
    """Sessions idle in a transaction for longer than that, oldest first, and how many sessions hide it."""
    rows = session.rows(
        "SELECT pid::text, coalesce(datname::text, ''), coalesce(usename::text, ''),"
        " extract(epoch FROM clock_timestamp() - xact_start)::float8, state"
        " FROM pg_catalog.pg_stat_activity"
        " WHERE datid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() ORDER BY xact_start",
        what="listing open transactions",
    )
    old = [
        OpenTransaction(pid, database, role, age)
        for pid, database, role, age, state in rows
        if state and state.startswith("idle in transaction") and age is not None and age > seconds
    ]
    return old, sum(1 for row in rows if row[4] is None)


def prepared_transactions_seen(session: Session, seconds: float) -> list[OpenTransaction]:
    """Transactions of all databases that have been prepared for longer than that, oldest first."""
    rows = session.rows(
        "SELECT gid, database::text, owner::text,"
        " extract(epoch FROM clock_timestamp() - prepared)::float8"
        " FROM pg_catalog.pg_prepared_xacts ORDER BY prepared",
        what="listing prepared transactions",
    )
    return [OpenTransaction(*row) for row in rows if row[3] > seconds]


def clock_offset(session: Session) -> float:
    """Seconds by which the server's clock is ahead of ours, taken at the middle of a short round trip."""
    before = time.time()
    ((theirs,),) = session.rows(
        "SELECT extract(epoch FROM clock_timestamp())::float8", what="asking for the time"
    )
    after = time.time()
    return float(theirs) - (before + after) / 2


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """Our role: whether it may do anything, and how many connections it may have (-1: no limit)."""

    superuser: bool
    connection_limit: int


def role_facts(session: Session) -> RoleFacts:
    """The attributes of the role we are connected as."""
    ((superuser, limit),) = session.rows(
        "SELECT rolsuper, rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = current_user",
        what="looking at our role",
    )
    return RoleFacts(superuser, limit)
