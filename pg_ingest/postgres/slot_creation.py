"""Making a replication slot, and why none can be made on a server.

Facts: manual, "Replication Management Functions" and "Logical Decoding"; src/backend/replication/slot.c.
"""

from __future__ import annotations

from contextlib import closing

from psycopg import sql

from pg_ingest.config.log import Plugin
from pg_ingest.errors import MethodUnavailable, PermissionMissing, SlotUnusable, SourceBusy
from pg_ingest.postgres.anchor import ANCHOR_VERSION, check_feedback
from pg_ingest.postgres.faults import quoted
from pg_ingest.postgres.protocol_slot import make_slot
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot import Slot, usable_slot

OLDEST_VERSION = 110000
"""pg_replication_slot_advance is there from here on."""


def create_slot(session: Session, name: str, plugin: str) -> Slot:
    """Create a slot and return it; everything that commits from now on will be read from it.

    The server first waits for all running transactions that write; `limits.query_timeout` ends that wait.
    Raises MethodUnavailable where the server is not set up for it, PermissionMissing, and on a standby what
    `make_slot` raises.
    """
    check_server(session)
    try:
        _create(session, name, plugin)
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


def _create(session: Session, name: str, plugin: str) -> None:
    if not session.is_standby:
        session.rows(
            "SELECT pg_create_logical_replication_slot(%s, %s)",
            (name, plugin),
            what=f"creating slot {name}",
        )
        return
    with closing(session.replication_connection()) as connection:
        make_slot(connection, session, name, plugin)


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
    if session.is_standby and session.server_version < ANCHOR_VERSION:
        raise MethodUnavailable(
            "log-based replication from a standby needs PostgreSQL 16 or newer",
            detail="older standbys do not decode their log",
            hint="connect to the primary, or choose another method",
        )
    if session.is_standby and session.log.plugin is not Plugin.PGOUTPUT:
        raise MethodUnavailable(
            f"log-based replication from a standby is not possible with {session.log.plugin}",
            detail="only with pgoutput has it been tested",
            hint="set `log.plugin: pgoutput`, or connect to the primary",
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
    if session.is_standby:
        check_feedback(session)
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
