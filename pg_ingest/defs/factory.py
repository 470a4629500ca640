"""A configuration and its saved catalogues in, Dagster definitions out.

Pure: no file is read and no connection is made, so a source that is down cannot break the code
location, and the same configuration always gives the same definitions.
"""

import logging
from collections.abc import Mapping

import dagster as dg

from pg_ingest.config.load import LoadedConfig
from pg_ingest.config.selection import Selection, select_sources
from pg_ingest.defs.asset_specs import upstream_spec
from pg_ingest.defs.assets import table_asset
from pg_ingest.defs.discovery import discovery_sensor
from pg_ingest.defs.faults import ClosedDoors
from pg_ingest.defs.jobs import dagster_job, sync_jobs
from pg_ingest.defs.log_assets import log_assets
from pg_ingest.defs.log_names import is_logged
from pg_ingest.defs.partitions import databases_partitions
from pg_ingest.defs.prerequisites import check_job, prerequisite_checks
from pg_ingest.defs.resources import connection_key, source_resource
from pg_ingest.defs.route import Route
from pg_ingest.defs.schedules import sync_schedule
from pg_ingest.defs.slot_lag import slot_lag_sensor
from pg_ingest.table import MethodAdvice, SourceCatalog, Table, TableId

log = logging.getLogger(__name__)


def build_definitions(
    loaded: LoadedConfig, catalogs: Mapping[str, SourceCatalog]
) -> dg.Definitions:
    """Assets, jobs, schedules and sensors of all sources.

    Args:
        catalogs: what discovery saved, by source; a source without one is replicated as far as its
            tables and databases are named.

    Raises:
        ConfigError: the selection of a source makes no sense, with every reason.
    """
    config = loaded.config
    for warning in loaded.warnings:
        log.warning(warning)
    selections = select_sources(config, {name: catalogs.get(name) for name in config.sources})
    parts = [
        source_definitions(Route(name, config), selection, catalogs.get(name))
        for name, selection in selections.items()
    ]
    return dg.Definitions.merge(*parts, dg.Definitions(executor=dg.in_process_executor))


def source_definitions(
    route: Route, selection: Selection, catalog: SourceCatalog | None
) -> dg.Definitions:
    """The definitions of one source."""
    for warning in selection.warnings:
        log.warning(warning)
    databases = databases_partitions(route.source, selection)
    tables, advice = known_tables(catalog), known_advice(catalog)
    doors = ClosedDoors()
    jobs = sync_jobs(route.source, selection.replications)
    schedule = route.settings.schedule
    logged = [each for each in selection.replications if is_logged(each)]
    alone = [each for each in selection.replications if not is_logged(each)]
    upstream = [upstream_spec(route, r, tables.get(r.table)) for r in selection.replications]
    assets = [
        table_asset(route, r, databases, tables.get(r.table), doors, advice.get(r.table))
        for r in alone
    ]
    if logged:
        assets.append(log_assets(route, logged, databases, tables, doors, advice))
    return dg.Definitions(
        resources={connection_key(route.source): source_resource(route.source, route.settings)},
        assets=[*upstream, *assets],
        asset_checks=[prerequisite_checks(route, selection.replications)] if jobs else [],
        jobs=[
            *(dagster_job(route, job) for job in jobs),
            *([check_job(route, selection.replications)] if jobs else []),
        ],
        schedules=[
            sync_schedule(route, job, selection, schedule)
            for job in (jobs if schedule is not None else [])
            if schedule is not None
        ],
        sensors=[
            discovery_sensor(route, selection),
            *(
                slot_lag_sensor(route, job, selection)
                for job in jobs
                if any(map(is_logged, job.replications))
            ),
        ],
    )


def known_tables(catalog: SourceCatalog | None) -> dict[TableId, Table]:
    """Each table as the first database that has it describes it."""
    tables: dict[TableId, Table] = {}
    for database in catalog.databases if catalog else ():
        for table in database.tables:
            tables.setdefault(table.id, table)
    return tables


def known_advice(catalog: SourceCatalog | None) -> dict[TableId, MethodAdvice]:
    """The method that was advised for each table when the source was last discovered."""
    databases = catalog.databases if catalog else ()
    return {advice.table: advice for database in databases for advice in database.advice}
