"""The whole script for an administrator, to be read and then run with psql.

It makes the role, lets it read what the configuration selects and nothing else, and publishes the tables that
are followed by the log. The role does not own tables, and only their owner may publish them; so the
administrator does, and the role stays a reader. (To let pg_ingest keep a publication in step by itself it would
have to own the tables, and could then change and drop them.) Nothing is dropped or taken away, and running it
again, after the configuration has changed, adds what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pg_ingest.config.needs import DatabaseNeeds, Needs
from pg_ingest.config.password import RdsIam
from pg_ingest.postgres import setup_statements as statements
from pg_ingest.postgres.faults import one_line, quoted
from pg_ingest.postgres.heartbeat_table import HEARTBEAT_PRIVILEGES, create_heartbeat
from pg_ingest.postgres.privileges import (
    grant_connect,
    grant_replication,
    grant_table,
    grant_usage,
)
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.visibility_function import create_function
from pg_ingest.setup.server_part import server_part
from pg_ingest.setup.steps import bypass_remark
from pg_ingest.table import TableId


def script(needs: Needs, provider: Provider, *, make_slots: bool = False) -> str:
    """The script as one text."""
    parts = [
        *_head(needs, provider),
        *_title("1. The server"),
        *_comments(server_part(needs, provider)),
        *_title("2. The role"),
        *_role(needs, provider),
    ]
    for database in needs.databases:
        parts += _database(needs, provider, database, make_slots=make_slots)
    parts += _title("Then")
    parts += _comments(["    pg-ingest check"])
    return "\n".join(parts) + "\n"


def _comments(lines: Iterable[str]) -> Iterator[str]:
    return (f"-- {line}".rstrip() for line in lines)


def _title(text: str) -> list[str]:
    return ["", f"-- ---- {one_line(text)} ----"]


def _head(needs: Needs, provider: Provider) -> Iterator[str]:
    known = "the catalogue that `pg-ingest discover` saved" if needs.known else "names alone"
    yield from _comments(
        [
            f"What {one_line(needs.settings.user)} needs for the source {needs.source} on"
            f" {provider.full_name}, from the configuration and {known}.",
            "Read it, then run it as an administrator, with psql:",
            f'    psql "host={needs.settings.host} port={needs.settings.port} dbname=postgres'
            ' user=<administrator>" -f <this file>',
            "It drops nothing; running it again adds what is missing.",
        ]
    )
    yield "\\set ON_ERROR_STOP on"
    yield "SELECT pg_is_in_recovery() AS is_standby \\gset"
    yield "\\if :is_standby"
    yield "\\echo 'This is a standby: run this at its primary, and set what part 1 names at both.'"
    yield "\\quit"
    yield "\\endif"
    yield "\\set ECHO queries"


def _role(needs: Needs, provider: Provider) -> Iterator[str]:
    role = needs.settings.user
    yield statements.role_is_new(role)
    yield "\\if :is_new"
    yield statements.create_role(role)
    yield from _password(needs)
    yield "\\endif"
    if isinstance(needs.settings.password, RdsIam):
        yield f"GRANT rds_iam TO {quoted(role)};  -- logs in with a token of IAM instead of a password"
    if needs.logged:
        yield "-- make and read replication slots"
        yield grant_replication(role, provider)


def _password(needs: Needs) -> Iterator[str]:
    password = needs.settings.password
    if password is None or isinstance(password, RdsIam):
        yield "-- no password: the configuration has none"
        return
    place = "the configuration" if password.is_literal else one_line(password.place)
    yield f"\\echo 'The password of the new role; pg_ingest takes it from {_plain(place)}.'"
    yield f"\\password {quoted(needs.settings.user)}"


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace("'", "")


def _database(
    needs: Needs, provider: Provider, database: DatabaseNeeds, *, make_slots: bool
) -> Iterator[str]:
    role = needs.settings.user
    if database.name is None:
        yield from _title("3. Each database: connect to it and run this part")
        yield from _comments([f"databases: {', '.join(map(one_line, needs.settings.databases))}"])
        yield f'GRANT CONNECT ON DATABASE :"DBNAME" TO {quoted(role)};'
    else:
        yield from _title(f"3. Database {database.name}")
        yield f"\\connect {_argument(database.name)}"
        yield grant_connect(database.name, role)
    if not database.tables and not database.open:
        return
    yield ""
    yield "-- read the tables"
    yield from statements.read_grants(database, role)
    yield ""
    yield statements.selected(database)
    if database.more:
        yield ""
        yield from _future(needs)
    yield ""
    yield "-- read all rows where row-level security would hide some" + bypass_remark(provider)
    yield statements.row_security(role)
    yield from _visibility_map(needs, provider)
    if database.logged:
        yield from _log(needs, database, make_slots=make_slots)


def _visibility_map(needs: Needs, provider: Provider) -> Iterator[str]:
    if needs.settings.visibility_map is None:
        return
    yield ""
    if provider is Provider.PLAIN:
        yield "-- show which pages of a table have not changed: needs a superuser, and version 14 or 15"
        yield create_function(TableId.parse(needs.settings.visibility_map), needs.settings.user)
    else:
        yield f"-- no visibility_map: {provider.full_name} lets nobody be the superuser that it needs"


def _future(needs: Needs) -> Iterator[str]:
    yield "-- read the tables to come, because the configuration takes tables by pattern"
    if needs.settings.exclude:
        yield "-- (default privileges know no exceptions: of tables to come, also excluded ones can be read)"
    yield statements.future_grants(needs.settings.user)


def _log(needs: Needs, database: DatabaseNeeds, *, make_slots: bool) -> Iterator[str]:
    log, role = needs.settings.log, needs.settings.user
    if needs.publishes:
        yield ""
        yield "-- publish what is followed; not a table whose UPDATE and DELETE would then be refused"
        yield from statements.publication(log.publication)
    if needs.heartbeat is not None:
        yield ""
        yield "-- heartbeats"
        yield f"CREATE SCHEMA IF NOT EXISTS {quoted(needs.heartbeat.schema)};"
        yield create_heartbeat(needs.heartbeat)
        yield grant_usage(needs.heartbeat.schema, role)
        yield grant_table(needs.heartbeat, role, HEARTBEAT_PRIVILEGES)
    if database.name is None:
        return
    yield ""
    made = statements.make_slot(log.slot_name(database.name), log.plugin.value)
    if make_slots:
        yield "-- from now on the server keeps its log for this slot: sync soon"
        yield made
    else:
        yield "-- The slot is made by the first sync; before, it would only make the server keep its log:"
        yield from _comments(f"    {line}" for line in made.splitlines())


def _argument(database: str) -> str:
    """A database's name as psql's \\connect takes it."""
    if "=" in database or "://" in database:
        value = database.replace("\\", "\\\\").replace("'", "\\'")
        conninfo = f"dbname='{value}'".replace("\\", "\\\\").replace("'", "''")
        return f"-reuse-previous=on '{conninfo}'"
    return quoted(database)
