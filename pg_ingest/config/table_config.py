"""The settings of one table, or of all tables of a pattern."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pg_ingest.config.large_tables import NO_HINTS, SplitHints
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.names import Name, SomeNames
from pg_ingest.config.problem import refuse
from pg_ingest.config.strict import Flag, Strict


class WindowSize(StrEnum):
    """The length of a time window."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def _moment(value: Any) -> Any:
    """UTC moment of an ISO date or date and time; one without an offset is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise refuse(
                "is not a date or a date and time", "write 2024-01-31 or 2024-01-31T06:00"
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(0))
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    raise refuse("is not a date or a date and time", "write 2024-01-31 or 2024-01-31T06:00")


Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]


class PartitionBy(Strict):
    """Time windows of a table, each replaced as a whole. `start` and `end` are moments in UTC."""

    column: Name = Field(description="A date or timestamp column.")
    every: WindowSize = Field(description="Length of a window.")
    start: Moment = Field(description="Begin of the first window: 2024-01-31 (UTC).")
    end: Moment | None = Field(
        default=None, description="End of the last window; none: it goes on."
    )


def _where(value: str) -> str:
    text = value.strip()
    if not text:
        raise refuse("is empty", "write an SQL condition, or remove where to take all rows")
    if text.endswith(";") or re.match(r"(?i)where\b", text):
        raise refuse(
            "is not one SQL condition", "write only what stands between WHERE and the semicolon"
        )
    return text


class TableConfig(Strict):
    """One table, or all tables of a pattern."""

    method: Method | None = Field(
        default=None, description="How rows are found; default: the source's."
    )
    key: SomeNames | None = Field(
        default=None, description="Columns that identify a row; default: the primary key."
    )
    replication_key: Name | None = Field(
        default=None, description="key_based: a column that grows with every insert and update."
    )
    replicate_deletes: Flag | None = Field(
        default=None, description="delta_snapshot: find deleted rows too; default: true."
    )
    row_identifier_key: SomeNames | None = Field(
        default=None,
        description="delta_snapshot: columns that identify a row where there is no primary key.",
    )
    update_key: SomeNames | None = Field(
        default=None,
        description="delta_snapshot: columns by which rows are replaced together where nothing is unique.",
    )
    columns: SomeNames | None = Field(default=None, description="Only these columns.")
    exclude_columns: SomeNames | None = Field(default=None, description="All columns but these.")
    where: Annotated[str, AfterValidator(_where)] | None = Field(
        default=None, description="An SQL condition: only rows that meet it."
    )
    partition_by: PartitionBy | None = Field(
        default=None, description="full_table: time windows, each replaced as a whole."
    )
    shape: Shape = Field(default=Shape.LIVE, description="What the destination holds.")
    split_key: SomeNames | None = Field(
        default=None,
        description="Columns of the key that chunks of a first load are cut by; default: the key.",
    )
    split_hints: SplitHints = Field(
        default=NO_HINTS, description="For cutting a large table into chunks."
    )
