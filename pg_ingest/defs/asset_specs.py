"""What stands on an asset in Dagster, whoever makes it: texts, tags, columns, advice."""

import hashlib
from datetime import datetime
from typing import Any

import dagster as dg

from pg_ingest.config.selection import Replication
from pg_ingest.defs.metadata import selected_columns, table_schema
from pg_ingest.defs.route import Route
from pg_ingest.table import MethodAdvice, Table

METHOD_TAG = "pg_ingest/method"


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
        metadata=_columns(replication, table),
    )


def table_spec(
    route: Route, replication: Replication, table: Table | None, advice: MethodAdvice | None
) -> dg.AssetSpec:
    """The asset `[source, schema, table]`; `table` and `advice` are what discovery knew."""
    return dg.AssetSpec(
        list(replication.asset_key),
        description=_described(route, replication, table),
        group_name=route.source,
        kinds={"postgres", route.config.destination.type},
        tags={METHOD_TAG: replication.method.value},
        code_version=hashlib.sha256(repr(replication).encode()).hexdigest()[:16],
        metadata={
            "dagster/table_name": f"{replication.target_schema}.{replication.target_table}",
            **_columns(replication, table),
            **_advice(replication, advice),
        },
    )


def output(spec: dg.AssetSpec) -> dg.AssetOut:
    """Of a step that stores the rows itself, and may leave this one out."""
    return dg.AssetOut.from_spec(spec, dagster_type=dg.Nothing, is_required=False)


def _advice(replication: Replication, advice: MethodAdvice | None) -> dict[str, Any]:
    """Which method suits the table, beside the one it has, and when the server was asked."""
    if advice is None:
        return {}
    return {
        "pg_ingest/recommended_method": advice.recommended,
        "pg_ingest/advice": advice.beside(replication.method.value),
        "pg_ingest/advised_at": dg.MetadataValue.timestamp(datetime.fromisoformat(advice.given_at)),
    }


def _columns(replication: Replication, table: Table | None) -> dict[str, Any]:
    """The columns as discovery saw them; nothing before it."""
    if table is None:
        return {}
    return {"dagster/column_schema": table_schema(table, selected_columns(replication, table))}


def _described(route: Route, replication: Replication, table: Table | None) -> str:
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
