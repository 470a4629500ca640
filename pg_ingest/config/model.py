"""The model of `pg_ingest.yaml`: what each key may hold, one key at a time.

What several keys mean together is judged in `rules.py`, so that all problems of a file are found at
once and not one after the other. Use `load_config` to get an `IngestConfig` that has passed both.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)

from pg_ingest.config.available import (
    AVAILABLE_DESTINATIONS,
    LATER_DESTINATIONS,
    available,
    not_yet,
)
from pg_ingest.config.host import checked_host
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.naming import TEMPLATE_HINT, checked_template
from pg_ingest.config.paths import CertificatePath, LocalPath
from pg_ingest.config.problem import refuse
from pg_ingest.config.schedule import CronSchedule, EverySchedule, Interval, Seconds
from pg_ingest.config.secret import Secret
from pg_ingest.config.strict import Flag, Strict, Whole

__all__ = [
    "CronSchedule",
    "DuckDbDestination",
    "EverySchedule",
    "Heartbeat",
    "IngestConfig",
    "Limits",
    "LogConfig",
    "Method",
    "NamingConfig",
    "PartitionBy",
    "Plugin",
    "Reader",
    "Secret",
    "Shape",
    "SourceConfig",
    "TableConfig",
    "TlsConfig",
    "TlsMode",
    "WindowSize",
    "is_pattern",
]


def is_pattern(text: str) -> bool:
    """Whether the text holds one of the shell's wildcards `*`, `?`, `[`."""
    return any(mark in text for mark in "*?[")


def _filled(value: str) -> str:
    if not value.strip():
        raise refuse("is empty", "write a name, or remove it")
    return value


def _no_twins(values: tuple[str, ...]) -> tuple[str, ...]:
    twins = sorted({value for value in values if values.count(value) > 1})
    if twins:
        raise refuse("names something twice", "name it once", value=", ".join(twins))
    return values


Name = Annotated[str, AfterValidator(_filled)]
Names = Annotated[tuple[Name, ...], AfterValidator(_no_twins)]
SomeNames = Annotated[Names, Field(min_length=1)]


class DuckDbDestination(Strict):
    """A DuckDB file."""

    type: Literal["duckdb"] = Field("duckdb", description="Kind of store.")
    path: LocalPath = Field(description="The database file; made when missing.")


def _destination(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") in LATER_DESTINATIONS:
        raise refuse(not_yet(f"the destination {value['type']}"), available(AVAILABLE_DESTINATIONS))
    return value


class TlsMode(StrEnum):
    """libpq's `sslmode`."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class TlsConfig(Strict):
    """How the connection is encrypted and whom it trusts."""

    mode: TlsMode = Field(TlsMode.PREFER, description="libpq's sslmode.")
    root_cert: CertificatePath | None = Field(
        None, description="File of trusted certificates, or `system` for those of the machine."
    )
    client_cert: LocalPath | None = Field(None, description="Client certificate (PEM).")
    client_key: LocalPath | None = Field(None, description="Its private key.")


class Plugin(StrEnum):
    """The output plugin of a replication slot."""

    PGOUTPUT = "pgoutput"
    WAL2JSON = "wal2json"


class Reader(StrEnum):
    """How a slot is read: SQL functions, or the streaming protocol."""

    SQL = "sql"
    STREAM = "stream"


class HeartbeatMode(StrEnum):
    """How an idle database's slot is made to move."""

    MESSAGE = "message"
    TABLE = "table"


class Heartbeat(Strict):
    """Something written regularly, so that the slot of an idle database moves."""

    every: Interval = Field(description="Interval with unit: 60s. At least 1s.")
    table: Name | None = Field(None, description="schema.table to write to, for mode table.")
    mode: HeartbeatMode = Field(
        HeartbeatMode.MESSAGE, description="message: pg_logical_emit_message; table: an UPDATE."
    )

    @property
    def seconds(self) -> int:
        """The interval."""
        return round(self.every.total_seconds())


_SLOT_TEXT = re.compile(r"[a-z0-9_]{1,63}")


def _slot(value: str) -> str:
    if not _SLOT_TEXT.fullmatch(value.replace("{database}", "x")):
        raise refuse(
            "cannot name a replication slot",
            "use lower-case letters, digits and _, and {database} where its name belongs",
        )
    return value


class LogConfig(Strict):
    """Log-based replication of a source."""

    plugin: Plugin = Field(Plugin.PGOUTPUT, description="Output plugin of the slot.")
    publication: Annotated[Name, Field(max_length=63)] = Field(
        "pg_ingest", description="Publication, for pgoutput."
    )
    slot: Annotated[str, AfterValidator(_slot)] = Field(
        "pg_ingest_{database}", description="Name of the slot in each database."
    )
    reader: Reader = Field(Reader.SQL, description="sql needs no replication line in pg_hba.conf.")
    heartbeat: Heartbeat | None = Field(None, description="Keeps an idle slot moving.")

    def slot_name(self, database: str) -> str:
        """The slot of that database: `slot` filled in, made a valid and distinct slot name."""
        wanted = self.slot.replace("{database}", database)
        if _SLOT_TEXT.fullmatch(wanted):
            return wanted
        mark = hashlib.sha256(wanted.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^a-z0-9_]', '_', wanted.lower())[:54]}_{mark}"


class NamingConfig(Strict):
    """Names in the destination, with {source}, {database}, {schema} and {table}."""

    schema_: Annotated[str, AfterValidator(checked_template)] = Field(
        "{source}", alias="schema", description=f"Schema. {TEMPLATE_HINT}"
    )
    table: Annotated[str, AfterValidator(checked_template)] = Field(
        "{table}", description=f"Table. {TEMPLATE_HINT}"
    )


class Limits(Strict):
    """What a source may be asked for."""

    connections: Whole = Field(4, ge=1, le=1000, description="Open connections at most.")
    connect_timeout: Seconds = Field(10, ge=1, le=3600, description="Seconds (or 10s) to connect.")
    statement_timeout: Seconds = Field(
        21_600, ge=1, le=2_000_000, description="Seconds (or 6h) for one long read."
    )
    query_timeout: Seconds = Field(
        60, ge=1, le=2_000_000, description="Seconds (or 1m) for a query of the catalogue."
    )
    lock_timeout: Seconds = Field(
        10, ge=1, le=2_000_000, description="Seconds (or 10s) to wait for a lock."
    )
    max_rejected: Whole = Field(
        1000, ge=0, description="Rows of one table that may be set aside before it fails."
    )
    fetch_rows: Whole = Field(50_000, ge=1, le=10_000_000, description="Rows per batch.")
    chunk_rows: Whole = Field(1_000_000, ge=1, description="Rows per chunk of a large read.")


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
    end: Moment | None = Field(None, description="End of the last window; none: it goes on.")


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

    method: Method | None = Field(None, description="How rows are found; default: the source's.")
    key: SomeNames | None = Field(
        None, description="Columns that identify a row; default: the primary key."
    )
    replication_key: Name | None = Field(
        None, description="key_based: a column that grows with every insert and update."
    )
    columns: SomeNames | None = Field(None, description="Only these columns.")
    exclude_columns: SomeNames | None = Field(None, description="All columns but these.")
    where: Annotated[str, AfterValidator(_where)] | None = Field(
        None, description="An SQL condition: only rows that meet it."
    )
    partition_by: PartitionBy | None = Field(
        None, description="full_table: time windows, each replaced as a whole."
    )
    shape: Shape = Field(Shape.LIVE, description="What the destination holds.")


def _schedule_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "cron" if "cron" in value else "every"
    kinds = {EverySchedule: "every", CronSchedule: "cron"}
    return kinds.get(type(value))


Schedule = Annotated[
    Annotated[EverySchedule, Tag("every")] | Annotated[CronSchedule, Tag("cron")],
    Discriminator(_schedule_kind),
]

Databases = Annotated[Names, Field(min_length=1)]


def _table_settings(value: Any) -> Any:
    """A table without settings (`public.orders:`) takes the source's."""
    if isinstance(value, list):
        raise refuse(
            "is a list", "write one line per table: `public.orders:`, its settings below it"
        )
    if isinstance(value, dict):
        return {name: {} if settings is None else settings for name, settings in value.items()}
    return value


class SourceConfig(Strict):
    """One database server, as seen through one user."""

    host: Annotated[str, AfterValidator(checked_host)] = Field(
        description="Name, address, or the folder of a Unix socket."
    )
    port: Whole = Field(5432, ge=1, le=65535, description="Port.")
    user: Name = Field(description="Role to log in as.")
    password: Secret | None = Field(None, description="Where the password is kept.")
    databases: Databases = Field(
        description='Names or patterns; "*" is every database the user may connect to.'
    )
    tls: TlsConfig | None = Field(None, description="Encryption; without it libpq's prefer.")
    method: Method | None = Field(None, description="Method of tables that name none.")
    log: LogConfig = Field(default_factory=LogConfig, description="Log-based replication.")
    naming: NamingConfig = Field(
        default_factory=NamingConfig, description="Names in the destination."
    )
    schedule: Schedule | None = Field(None, description="When to run; without it: by hand.")
    limits: Limits = Field(default_factory=Limits, description="What may be asked of the server.")
    select_all: Flag = Field(False, description="All tables (no views); needs a method here.")
    exclude: Names = Field((), description="Tables or patterns never taken.")
    tables: Annotated[dict[str, TableConfig], BeforeValidator(_table_settings)] = Field(
        default_factory=dict, description="schema.table or a pattern, and its settings."
    )

    @property
    def fixed_databases(self) -> tuple[str, ...] | None:
        """The databases, None when one of them is a pattern."""
        return None if any(map(is_pattern, self.databases)) else self.databases


class IngestConfig(Strict):
    """The whole file. Paths are absolute once loaded."""

    destination: Annotated[DuckDbDestination, BeforeValidator(_destination)] = Field(
        description="Where the rows go."
    )
    state_dir: LocalPath = Field(
        Path(".pg_ingest"),
        validate_default=True,
        description="Folder of the change log and of what was discovered.",
    )
    sources: dict[str, SourceConfig] = Field(
        description="Database servers by name: letters, digits and _."
    )
