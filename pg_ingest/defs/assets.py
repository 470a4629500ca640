"""One asset per replicated table, and one external asset for the source table above it."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from pg_ingest.config.selection import Replication
from pg_ingest.defs.faults import ClosedDoors
from pg_ingest.defs.loading import SyncConfig, TableLoader
from pg_ingest.defs.metadata import selected_columns, table_schema
from pg_ingest.defs.partitions import with_windows
from pg_ingest.defs.resources import connection_key, through
from pg_ingest.defs.route import Route
from pg_ingest.table import MethodAdvice, Table

METHOD_TAG = "pg_ingest/method"
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


def upstream_key(replication: Replication) -> dg.AssetKey:
    """Key of the external asset: the table in the source."""
    return dg.AssetKey(["postgres", *replication.asset_key])


def upstream_spec(route: Route, replication: Replication, table: Table | None) -> dg.AssetSpec:
    """The source table, which Dagster shows but does not make."""
    settings = route.settings
    place = f"`{replication.table}` on {settings.host}:{settings.port}"
    return dg.AssetSpec(
        upstream_key(replication),
        description=_paragraphs(table.comment if table else None, f"The source table {place}."),
        group_name=f"postgres_{route.source}",
        kinds={"postgres", "view" if table and "view" in table.kind.value else "table"},
        metadata=schema_metadata(replication, table),
    )


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
        outs={"rows": _out(route, replication, table, advice)},
        partitions_def=partitions,
        backfill_policy=None if window is None else dg.BackfillPolicy.single_run(),
        pool=route.pool,
        op_tags={METHOD_TAG: replication.method.value},
        required_resource_keys={connection_key(route.source)},
    )
    def replicate_table(context: dg.AssetExecutionContext, config: SyncConfig) -> Any:
        yield from through(loader, context).run(context, config)

    return replicate_table


def _out(
    route: Route, replication: Replication, table: Table | None, advice: MethodAdvice | None
) -> dg.AssetOut:
    return dg.AssetOut(
        key=dg.AssetKey(list(replication.asset_key)),
        dagster_type=dg.Nothing,
        is_required=False,
        description=describe(route, replication, table),
        group_name=route.source,
        kinds={"postgres", route.config.destination.type},
        tags={METHOD_TAG: replication.method.value},
        code_version=hashlib.sha256(repr(replication).encode()).hexdigest()[:16],
        metadata={
            "dagster/table_name": f"{replication.target_schema}.{replication.target_table}",
            **schema_metadata(replication, table),
            **advice_metadata(replication, advice),
        },
    )


def advice_metadata(replication: Replication, advice: MethodAdvice | None) -> dict[str, Any]:
    """Which method suits the table, beside the one it has, and when the server was asked."""
    if advice is None:
        return {}
    return {
        "pg_ingest/recommended_method": advice.recommended,
        "pg_ingest/advice": advice.beside(replication.method.value),
        "pg_ingest/advised_at": dg.MetadataValue.timestamp(datetime.fromisoformat(advice.given_at)),
    }


def schema_metadata(replication: Replication, table: Table | None) -> dict[str, Any]:
    """The columns as discovery saw them; nothing before it."""
    if table is None:
        return {}
    return {"dagster/column_schema": table_schema(table, selected_columns(replication, table))}


def describe(route: Route, replication: Replication, table: Table | None) -> str:
    """Markdown for the asset's page: the source's comment, the method, where the rows go."""
    target = f"`{replication.target_schema}.{replication.target_table}`"
    how = (
        f"Replicated from `{replication.table}` by **{replication.method.value}** into {target} "
        f"({route.config.destination.type}, {route.config.destination.path.name})."
    )
    extra = []
    if replication.replication_key:
        extra.append(f"Replication key: `{replication.replication_key}`.")
    if replication.where:
        extra.append(f"Only rows where `{replication.where}`.")
    if replication.partition_by is not None:
        window = replication.partition_by
        extra.append(
            f"Each {window.every} of `{window.column}` from {window.start:%Y-%m-%d} is a partition "
            "that is replaced as a whole. Rows outside every window, and rows without a "
            f"`{window.column}`, are not replicated."
        )
    return _paragraphs(table.comment if table else None, how, " ".join(extra))


def _paragraphs(*texts: str | None) -> str:
    return "\n\n".join(text for text in texts if text)
