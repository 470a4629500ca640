"""The tables of a source that are replicated from its log, and the change log above them: one multi-asset.

They share a slot, so they are one step: whichever of them is materialised, everything that the slot holds is
captured, and the selected tables are applied. The step is not in the destination's pool: reading the
source's log never waits for a destination.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from pg_ingest.config.log import Plugin
from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.defs.asset_specs import METHOD_TAG, output, table_spec, upstream_key
from pg_ingest.defs.assets import op_name
from pg_ingest.defs.faults import ClosedDoors
from pg_ingest.defs.loading import SyncConfig
from pg_ingest.defs.log_loading import LogLoader
from pg_ingest.defs.log_names import CHANGE_LOG, change_log_key, log_op_name, log_pool
from pg_ingest.defs.resources import connection_key, through
from pg_ingest.defs.route import Route
from pg_ingest.table import MethodAdvice, Table, TableId

_UPSTREAM = "upstream"


def log_assets(
    route: Route,
    replications: Sequence[Replication],
    databases: dg.PartitionsDefinition[str],
    tables: Mapping[TableId, Table],
    doors: ClosedDoors,
    advice: Mapping[TableId, MethodAdvice],
) -> dg.AssetsDefinition:
    """The assets `[source, "change_log"]` and `[source, schema, table]` of all `replications`."""
    loader = LogLoader(route, replications, doors)
    log = change_log_key(route.source)
    upstream = {op_name(each): upstream_key(each) for each in replications}

    # inputs and outputs are named here, because Dagster would take the names of tables, which may be unusual
    @dg.multi_asset(
        name=log_op_name(route.source),
        ins={
            f"{_UPSTREAM}_{name}": dg.AssetIn(key, dagster_type=dg.Nothing)
            for name, key in upstream.items()
        },
        outs={
            CHANGE_LOG: output(_change_log_spec(route, replications)),
            **{
                op_name(each): output(
                    table_spec(route, each, tables.get(each.table), advice.get(each.table))
                )
                for each in replications
            },
        },
        internal_asset_deps={
            CHANGE_LOG: set(upstream.values()),
            **{name: {log, key} for name, key in upstream.items()},
        },
        partitions_def=databases,
        can_subset=True,
        pool=log_pool(route.source),
        op_tags={METHOD_TAG: Method.LOG_BASED.value},
        required_resource_keys={connection_key(route.source)},
    )
    def replicate_log(context: dg.AssetExecutionContext, config: SyncConfig) -> Any:
        yield from through(loader, context).run(context, config)

    return replicate_log


def _change_log_spec(route: Route, replications: Sequence[Replication]) -> dg.AssetSpec:
    log = route.settings.log
    wal2json = log.plugin is Plugin.WAL2JSON
    through = "wal2json" if wal2json else f"the publication `{log.publication}`"
    return dg.AssetSpec(
        change_log_key(route.source),
        description=(
            f"Every change of {len(replications)} tables, read from the slots `{log.slot}` through"
            f" {through} and kept in `state_dir` until each table has applied it."
            " The slot moves when they are durable here, whatever becomes of the destination."
        ),
        group_name=route.source,
        kinds={"postgres", "arrow"},
        tags={METHOD_TAG: Method.LOG_BASED.value},
    )
