"""One asset per replicated table, where each is read on its own."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import dagster as dg

from pg_ingest.config.selection import Replication
from pg_ingest.defs.asset_specs import METHOD_TAG, output, table_spec, upstream_key
from pg_ingest.defs.faults import ClosedDoors
from pg_ingest.defs.loading import SyncConfig, TableLoader
from pg_ingest.defs.partitions import with_windows
from pg_ingest.defs.resources import connection_key, through
from pg_ingest.defs.route import Route
from pg_ingest.table import MethodAdvice, Table

SOURCE_TAG = "pg_ingest/source"
DATABASE_TAG = "pg_ingest/database"
DESTINATION_TAG = "pg_ingest/destination"

_PLAIN = re.compile(r"\A[A-Za-z0-9]+(_[A-Za-z0-9]+)*\Z")


def op_name(replication: Replication) -> str:
    """The step's name, `shop__public__orders`; a name Dagster does not take gets a digest instead
    of its unusual letters, so that two such tables never meet."""
    return plain_name(replication.asset_key)


def plain_name(parts: Sequence[str]) -> str:
    """The parts as one name that Dagster takes, different for different parts."""
    name = "__".join(parts)
    if all(_PLAIN.match(part) for part in parts):
        return name
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_]+', '_', name)}_{digest}"


def table_asset(
    route: Route,
    replication: Replication,
    databases: dg.PartitionsDefinition[str],
    table: Table | None,
    doors: ClosedDoors,
    advice: MethodAdvice | None = None,
) -> dg.AssetsDefinition:
    """The asset `[source, schema, table]`; `table` is what discovery knew of it, for its texts."""
    window = replication.partition_by
    partitions: dg.PartitionsDefinition[Any] = (
        databases if window is None else with_windows(databases, window)
    )
    loader = TableLoader(route, replication, partitions, doors)

    @dg.multi_asset(
        name=op_name(replication),
        ins={"upstream": dg.AssetIn(upstream_key(replication), dagster_type=dg.Nothing)},
        outs={"rows": output(table_spec(route, replication, table, advice))},
        partitions_def=partitions,
        backfill_policy=None if window is None else dg.BackfillPolicy.single_run(),
        pool=route.pool,
        op_tags={METHOD_TAG: replication.method.value},
        required_resource_keys={connection_key(route.source)},
    )
    def replicate_table(context: dg.AssetExecutionContext, config: SyncConfig) -> Any:
        yield from through(loader, context).run(context, config)

    return replicate_table
