"""All databases of a source at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from pg_ingest.config.model import is_pattern
from pg_ingest.errors import LoginFailed, PermissionMissing, PgIngestError
from pg_ingest.postgres.catalog import list_databases, read_database
from pg_ingest.postgres.server import Server
from pg_ingest.table import DatabaseCatalog, SourceCatalog

MAINTENANCE_DATABASES = ("postgres", "template1")
"""Where a list of databases can be asked for when the configuration names none to connect to."""

OnFailure = Callable[[str, PgIngestError], None]


def discover(
    server: Server, patterns: Sequence[str], *, on_failure: OnFailure | None = None
) -> SourceCatalog:
    """The catalogues of all databases that a name or pattern (`tenant_*`) matches.

    A database that fails does not stop the others. With `on_failure` it is handed its name and error, and
    the result lacks the database; without, the first error is raised once all have been tried.
    """
    captured_at = datetime.now(UTC).isoformat(timespec="seconds")
    failures: dict[str, PgIngestError] = {}

    def read(database: str) -> DatabaseCatalog | None:
        try:
            with server.session(database, purpose="discover") as session:
                return read_database(session)
        except PgIngestError as error:
            failures[database] = error
            return None

    names = matching_databases(server, patterns)
    with ThreadPoolExecutor(server.config.limits.connections) as pool:
        found = [catalog for catalog in pool.map(read, names) if catalog is not None]
    for database in sorted(failures):
        if on_failure is None:
            raise failures[database]
        on_failure(database, failures[database])
    return SourceCatalog(server.source, captured_at, tuple(found))


def matching_databases(server: Server, patterns: Sequence[str]) -> tuple[str, ...]:
    """The names among `patterns`, and the existing databases that match the others, in order."""
    named = {pattern for pattern in patterns if not is_pattern(pattern)}
    wildcards = [pattern for pattern in patterns if is_pattern(pattern)]
    if wildcards:
        existing = _existing_databases(server, sorted(named))
        named |= {one for one in existing if any(fnmatchcase(one, wild) for wild in wildcards)}
    return tuple(sorted(named))


def _existing_databases(server: Server, named: Sequence[str]) -> tuple[str, ...]:
    *others, last = dict.fromkeys([*named, *MAINTENANCE_DATABASES])
    for database in others:
        try:
            with server.session(database, purpose="discover") as session:
                return list_databases(session)
        except (LoginFailed, PermissionMissing):
            continue
    with server.session(last, purpose="discover") as session:
        return list_databases(session)
