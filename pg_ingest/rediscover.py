"""Look at a source again without forgetting what could not be seen this time."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pg_ingest.catalog_file import load_catalog, save_catalog
from pg_ingest.config.model import IngestConfig
from pg_ingest.config.selection import Selection, select
from pg_ingest.errors import ConfigError, PgIngestError
from pg_ingest.methods.advised import advised
from pg_ingest.postgres.discovery import discover
from pg_ingest.postgres.server import Server
from pg_ingest.table import DatabaseCatalog, SourceCatalog

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen: a catalogue to save, and the databases that failed.

    The catalogue still has the earlier description of a database that failed, so that one database
    which is down does not make its tables vanish.
    """

    catalog: SourceCatalog
    failures: dict[str, PgIngestError]

    @property
    def empty(self) -> bool:
        """Nothing was seen, now or before."""
        return not self.catalog.databases


def rediscover(server: Server, config: IngestConfig) -> Sight:
    """Discover one source; raise only what stops the list of databases from being read."""
    failures: dict[str, PgIngestError] = {}
    catalog = discover(
        server, config.sources[server.source].databases, on_failure=failures.__setitem__
    )
    try:
        earlier = load_catalog(config.state_dir, server.source)
    except ConfigError:
        earlier = None
    known = {each.database: each for each in (earlier.databases if earlier else ())}
    kept = [each for name, each in known.items() if name in failures]
    seen = [_advised_before(known.get(each.database), each) for each in catalog.databases]
    databases = sorted([*seen, *kept], key=lambda found: found.database)
    return Sight(replace(catalog, databases=tuple(databases)), failures)


def _advised_before(known: DatabaseCatalog | None, seen: DatabaseCatalog) -> DatabaseCatalog:
    return seen if known is None else replace(seen, advice=known.advice)


def look_and_save(server: Server, config: IngestConfig) -> tuple[Sight, Selection]:
    """Discover, select by what was seen, and only then save it.

    A catalogue that the configuration does not fit (a named table is gone) raises ConfigError and is
    not saved: the code location goes on with the one it has, where only that table fails. When it does
    not fit because a database could not be seen, that is the error.
    """
    sight = rediscover(server, config)
    unseen = next(iter(sight.failures.values()), None)
    if sight.empty and unseen is not None:
        raise unseen
    try:
        selection = select(config, server.source, sight.catalog)
    except ConfigError:
        if unseen is None:
            raise
        raise unseen from None
    if not sight.empty:
        sight = replace(sight, catalog=_with_advice(server, sight, selection))
        save_catalog(config.state_dir, sight.catalog)
    return sight, selection


def _with_advice(server: Server, sight: Sight, selection: Selection) -> SourceCatalog:
    """The catalogue with a method advised for each table, by the first database that has it.

    What was advised before stays where the server does not answer: advice stops nobody from discovering.
    """
    left = list(selection.replications)
    databases = []
    for database in sight.catalog.databases:
        found = [(r, table) for r in left if (table := database.table(r.table)) is not None]
        left = [each for each in left if database.table(each.table) is None]
        if found and database.database not in sight.failures:
            try:
                with server.session(database.database, purpose="discover") as session:
                    database = replace(database, advice=tuple(advised(session, found)))
            except PgIngestError as error:
                log.warning("no advice on methods: database=%s %s", database.database, error)
        databases.append(database)
    return replace(sight.catalog, databases=tuple(databases))
