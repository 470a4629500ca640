"""What a run did to each table, read from Dagster's events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pg_ingest.config.selection import Replication
from pg_ingest.errors import PgIngestError

if TYPE_CHECKING:
    from dagster import DagsterEvent

DONE = "done"
FAILED = "failed"
ABSENT = "absent"

INTERRUPTED = "interrupted"
NOT_RUN = (INTERRUPTED, "", "what was stored before is untouched; sync again")

_FACTS = ("inserted", "updated", "deleted", "rejected", "rows_read", "bytes", "duration_s", "phase")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One table of one database after a run.

    Attributes:
        status: `done`, `failed`, or `absent` when this database, one of several, lacks the table.
        window: first and last window of a windowed table, else "".
        facts: the load's metadata by short name (`inserted`, `total`, …).
        error, detail, hint: why it failed.
    """

    source: str
    database: str
    table: str
    method: str
    status: str
    window: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    detail: str = ""
    hint: str = ""


def failed(replication: Replication, database: str, error: PgIngestError) -> Outcome:
    """A table that was not tried because of an error that concerns its database."""
    return Outcome(
        replication.source,
        database,
        str(replication.table),
        replication.method.value,
        FAILED,
        error=error.message,
        detail=error.detail,
        hint=error.hint,
    )


def outcomes_of(
    events: Iterable[DagsterEvent],
    steps: Mapping[str, Replication],
    database: str,
    window: str = "",
) -> list[Outcome]:
    """One outcome for each step of `steps` (step key to table), in their order.

    A step without an event was never begun, because the run was interrupted.
    """
    done: dict[str, Mapping[str, Any]] = {}
    faults: dict[str, tuple[str, str, str]] = dict.fromkeys(steps, NOT_RUN)
    for event in events:
        key = event.step_key
        if key is None:
            continue
        if event.event_type_value == "ASSET_MATERIALIZATION":
            done.setdefault(key, facts_of(event))
        elif event.is_step_failure:
            faults[key] = fault_of(event)
        elif event.is_step_success:
            faults.pop(key, None)
    return [
        outcome_of(steps[key], database, window, done.get(key), faults.get(key)) for key in steps
    ]


def nowhere(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same, but a table that not one of its databases has is a failure, not an absence.

    Only for the outcomes of all databases: a table may well be absent from those that were chosen.
    """
    somewhere = {(one.source, one.table) for one in outcomes if one.status != ABSENT}
    return [
        one
        if (one.source, one.table) in somewhere
        else replace(
            one,
            status=FAILED,
            error=f"table {one.table} does not exist in any of the databases",
            hint="dropped, renamed or misspelt? look at `tables` in the configuration",
        )
        for one in outcomes
    ]


def outcome_of(
    replication: Replication,
    database: str,
    window: str,
    facts: Mapping[str, Any] | None,
    fault: tuple[str, str, str] | None,
) -> Outcome:
    """With a `fault` (message, detail, hint) it failed; with neither fault nor facts the table is absent."""
    status = FAILED if fault is not None else ABSENT if facts is None else DONE
    error, detail, hint = fault or ("", "", "")
    return Outcome(
        replication.source,
        database,
        str(replication.table),
        replication.method.value,
        status,
        window,
        facts or {},
        error,
        detail,
        hint,
    )


def facts_of(event: DagsterEvent) -> dict[str, Any]:
    """The metadata of a materialisation by their short names."""
    metadata = {key: value.value for key, value in event.materialization.metadata.items()}
    facts = {name: metadata.get(f"pg_ingest/{name}") for name in _FACTS}
    return {
        "total": metadata.get("dagster/row_count"),
        **facts,
        "from": metadata.get("pg_ingest/from", ""),
        "to": metadata.get("pg_ingest/to", ""),
        "notes": metadata.get("pg_ingest/notes", ""),
    }


def fault_of(event: DagsterEvent) -> tuple[str, str, str]:
    """Message, detail, hint of a failed step; the exception's first line when nobody expected it."""
    data = event.step_failure_data
    told = data.user_failure_data
    if told is not None and told.description:
        metadata = {key: str(value.value) for key, value in (told.metadata or {}).items()}
        return (
            told.description.splitlines()[0],
            metadata.get("pg_ingest/detail", ""),
            metadata.get("pg_ingest/hint", ""),
        )
    error = data.error
    if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
        return NOT_RUN
    while error is not None and error.cause is not None:
        error = error.cause
    text = error.message.strip() if error is not None else "the step failed"
    return (
        text.splitlines()[0] if text else "the step failed",
        "",
        "see it with `pg-ingest -v sync`",
    )
