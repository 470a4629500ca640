"""The sensor `<source>_discovery`: what is new in the source.

It refreshes the saved catalogue, adds new databases of a pattern as partitions, and says when the
code location must be reloaded because tables came or went. On by default where the configuration
leaves something to be discovered (a pattern, `select_all`), off where it names everything.
"""

import dagster as dg

from pg_ingest.config.model import SourceConfig, is_pattern
from pg_ingest.config.selection import Selection
from pg_ingest.defs.partitions import dynamic_name
from pg_ingest.defs.route import Route
from pg_ingest.errors import PgIngestError

INTERVAL_SECONDS = 600


def leaves_something_open(settings: SourceConfig) -> bool:
    """Whether databases or tables are chosen by pattern."""
    return (
        settings.fixed_databases is None
        or settings.select_all
        or any(is_pattern(name) for name in settings.tables)
    )


def discovery_sensor(route: Route, selection: Selection) -> dg.SensorDefinition:
    """The sensor of one source; `selection` is what the loaded code location replicates."""
    wanted = leaves_something_open(route.settings)
    status = dg.DefaultSensorStatus
    loaded = frozenset(replication.asset_key for replication in selection.replications)

    @dg.sensor(
        name=f"{route.source}_discovery",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=status.RUNNING if wanted else status.STOPPED,
        description=f"Looks for new databases and tables in {route.source}.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        try:
            found, failed = refresh(route)
        except PgIngestError as error:
            return dg.SensorResult(skip_reason=route.redact(str(error)))
        notes = [changes(loaded, found), *failed]
        return dg.SensorResult(
            skip_reason="\n".join(note for note in notes if note) or "nothing new",
            dynamic_partitions_requests=_new_partitions(context.instance, route, found),
        )

    return look


def refresh(route: Route) -> tuple[Selection, list[str]]:
    """Discover and save; what is replicated now, and what failed, one line per database.

    Raises as `rediscover.look_and_save`.
    """
    from pg_ingest.rediscover import look_and_save

    sight, selection = look_and_save(route.server, route.config)
    failed = [f"database {name}: {error}" for name, error in sorted(sight.failures.items())]
    return selection, [route.redact(line) for line in failed]


def changes(loaded: frozenset[tuple[str, str, str]], found: Selection) -> str:
    """A sentence for the sensor's tick; empty when the selection is the one that is loaded."""
    now = {replication.asset_key for replication in found.replications}
    parts = []
    for verb, keys in (("new", now - loaded), ("gone", loaded - now)):
        if keys:
            names = ", ".join(".".join(key[1:]) for key in sorted(keys)[:5])
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            parts.append(f"{len(keys)} {verb} ({names}{more})")
    return f"tables: {'; '.join(parts)}: reload the code location" if parts else ""


def _new_partitions(
    instance: dg.DagsterInstance, route: Route, found: Selection
) -> list[dg.AddDynamicPartitionsRequest]:
    if not found.dynamic_databases:
        return []
    name = dynamic_name(route.source)
    known = set(instance.get_dynamic_partitions(name))
    new = [database for database in found.databases if database not in known]
    return [dg.AddDynamicPartitionsRequest(name, new)] if new else []
