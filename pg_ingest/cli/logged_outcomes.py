"""What the log-based step of a run did to each of its tables, read from Dagster's events.

A table without a materialisation had no changes, unless the step says that it failed or that the database
lacks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pg_ingest.cli.outcomes import NOT_RUN, Outcome, facts_of, fault_of, outcome_of
from pg_ingest.config.selection import Replication
from pg_ingest.defs.log_names import change_log_key, log_op_name

if TYPE_CHECKING:
    from dagster import AssetKey, DagsterEvent

_NOTHING_NEW = {"inserted": 0, "updated": 0, "deleted": 0, "rows_read": 0, "phase": "changes"}

Fault = tuple[str, str, str]


def logged_outcomes(
    events: Iterable[DagsterEvent], tables: Sequence[Replication], database: str
) -> list[Outcome]:
    """One outcome for each of these log-based tables of one source."""
    if not tables:
        return []
    step = log_op_name(tables[0].source)
    seen = [event for event in events if event.step_key == step]
    done = {_key(event): event for event in seen if event.asset_key is not None}
    facts = {key: facts_of(event) for key, event in done.items()}
    log = done.get(change_log_key(tables[0].source))
    absent = _metadata(log).get("pg_ingest/absent", ()) if log is not None else ()
    faults = _faults(seen, [str(table.table) for table in tables])
    return [
        outcome_of(
            table,
            database,
            "",
            None if str(table.table) in absent else facts.get(_asset(table), _NOTHING_NEW),
            faults.get(str(table.table)) if _asset(table) not in facts else None,
        )
        for table in tables
    ]


def _asset(table: Replication) -> AssetKey:
    from dagster import AssetKey

    return AssetKey(list(table.asset_key))


def _key(event: DagsterEvent) -> AssetKey | None:
    return event.asset_key if event.event_type_value == "ASSET_MATERIALIZATION" else None


def _metadata(event: DagsterEvent) -> Mapping[str, Any]:
    return {key: found.value for key, found in event.materialization.metadata.items()}


def _faults(events: Iterable[DagsterEvent], tables: Sequence[str]) -> Mapping[str, Fault]:
    """Why tables failed: each for itself, or all of them when nothing could be captured."""
    faults: dict[str, Fault] = dict.fromkeys(tables, NOT_RUN)
    for event in events:
        if event.is_step_success:
            faults = {}
        elif event.is_step_failure:
            faults = _told(event) or dict.fromkeys(tables, fault_of(event))
    return faults


def _told(event: DagsterEvent) -> dict[str, Fault] | None:
    told = event.step_failure_data.user_failure_data
    failed = (told.metadata or {}).get("pg_ingest/failed") if told is not None else None
    if failed is None or not isinstance(failed.value, dict):
        return None
    return {
        table: (found["message"], found.get("detail", ""), found.get("hint", ""))
        for table, found in failed.value.items()
    }
