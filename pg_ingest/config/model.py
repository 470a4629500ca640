"""The model of `pg_ingest.yaml`: what each key may hold, one key at a time.

What several keys mean together is judged in `rules.py`, so that all problems of a file are found at
once and not one after the other. Use `load_config` to get an `IngestConfig` that has passed both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
)

from pg_ingest.config.available import (
    AVAILABLE_DESTINATIONS,
    LATER_DESTINATIONS,
    available,
    not_yet,
)
from pg_ingest.config.host import checked_host
from pg_ingest.config.log import Heartbeat, HeartbeatMode, LogConfig, Plugin, Reader
from pg_ingest.config.method import Method, Shape
from pg_ingest.config.names import Name, Names, QualifiedName, SomeNames, is_pattern
from pg_ingest.config.naming import TEMPLATE_HINT, checked_template
from pg_ingest.config.password import Password, RdsIam
from pg_ingest.config.paths import LocalPath
from pg_ingest.config.problem import refuse
from pg_ingest.config.quiet_hours import QuietHours, SomeQuietHours
from pg_ingest.config.schedule import CronSchedule, EverySchedule, Seconds
from pg_ingest.config.secret import Secret
from pg_ingest.config.size import Size
from pg_ingest.config.ssh import SshConfig, SshServer
from pg_ingest.config.strict import Flag, Strict, Whole
from pg_ingest.config.table_config import PartitionBy, TableConfig, WindowSize
from pg_ingest.config.tls import TlsConfig, TlsMode, TlsVersion

__all__ = [
    "CronSchedule",
    "DuckDbDestination",
    "EverySchedule",
    "Heartbeat",
    "HeartbeatMode",
    "IngestConfig",
    "Limits",
    "LogConfig",
    "Method",
    "NamingConfig",
    "PartitionBy",
    "Plugin",
    "QuietHours",
    "RdsIam",
    "Reader",
    "Secret",
    "Shape",
    "SourceConfig",
    "SshConfig",
    "SshServer",
    "TableConfig",
    "TlsConfig",
    "TlsMode",
    "TlsVersion",
    "WindowSize",
    "is_pattern",
]


class DuckDbDestination(Strict):
    """A DuckDB file."""

    type: Literal["duckdb"] = Field(default="duckdb", description="Kind of store.")
    path: LocalPath = Field(description="The database file; made when missing.")


def _destination(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") in LATER_DESTINATIONS:
        raise refuse(not_yet(f"the destination {value['type']}"), available(AVAILABLE_DESTINATIONS))
    return value


class NamingConfig(Strict):
    """Names in the destination, with {source}, {database}, {schema} and {table}."""

    schema_: Annotated[str, AfterValidator(checked_template)] = Field(
        default="{source}", alias="schema", description=f"Schema. {TEMPLATE_HINT}"
    )
    table: Annotated[str, AfterValidator(checked_template)] = Field(
        default="{table}", description=f"Table. {TEMPLATE_HINT}"
    )


class Limits(Strict):
    """What a source may be asked for."""

    connections: Whole = Field(default=4, ge=1, le=1000, description="Open connections at most.")
    connect_timeout: Seconds = Field(
        default=10, ge=1, le=3600, description="Seconds (or 10s) to connect."
    )
    statement_timeout: Seconds = Field(
        default=21_600, ge=1, le=2_000_000, description="Seconds (or 6h) for one long read."
    )
    query_timeout: Seconds = Field(
        default=60, ge=1, le=2_000_000, description="Seconds (or 1m) for a query of the catalogue."
    )
    lock_timeout: Seconds = Field(
        default=10, ge=1, le=2_000_000, description="Seconds (or 10s) to wait for a lock."
    )
    max_rejected: Whole = Field(
        default=1000, ge=0, description="Rows of one table that may be set aside before it fails."
    )
    fetch_rows: Whole = Field(
        default=50_000, ge=1, le=10_000_000, description="Rows per batch, about."
    )
    chunk_rows: Whole = Field(
        default=1_000_000, ge=1, description="Rows per chunk of a large first load."
    )
    chunks_per_table: Whole = Field(
        default=1000, ge=1, le=100_000, description="Chunks of one table at most; they get larger."
    )
    load_threads: Whole = Field(
        default=2, ge=1, le=64, description="Connections that read one large table at once."
    )
    max_rate: Annotated[Size, Field(ge=1 << 16)] | None = Field(
        default=None, description="Bytes read per second at most, with a unit: 20MB."
    )
    quiet_hours: SomeQuietHours = Field(
        default=(),
        description="Windows in which schedules and sensors start nothing; one or a list.",
    )


def _schedule_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return "cron" if "cron" in value else "every"
    if isinstance(value, CronSchedule):
        return "cron"
    return "every" if isinstance(value, EverySchedule) else None


Schedule = Annotated[
    Annotated[EverySchedule, Tag("every")] | Annotated[CronSchedule, Tag("cron")],
    Discriminator(_schedule_kind),
]


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
    port: Whole = Field(default=5432, ge=1, le=65535, description="Port.")
    user: Name = Field(description="Role to log in as.")
    password: Password | None = Field(default=None, description="Where the password is kept.")
    databases: SomeNames = Field(
        description='Names or patterns; "*" is every database the user may connect to.'
    )
    tls: TlsConfig | None = Field(
        default=None,
        description="Encryption; without it require, and prefer for a host of this machine.",
    )
    ssh: SshConfig | None = Field(
        default=None, description="The SSH server to go through; host and port are seen from there."
    )
    method: Method | None = Field(default=None, description="Method of tables that name none.")
    log: LogConfig = Field(default=LogConfig(), description="Log-based replication.")
    naming: NamingConfig = Field(default=NamingConfig(), description="Names in the destination.")
    schedule: Schedule | None = Field(default=None, description="When to run; without it: by hand.")
    limits: Limits = Field(default=Limits(), description="What may be asked of the server.")
    visibility_map: QualifiedName | None = Field(
        default=None,
        description="xmin on 14 and 15: the administrator's function that shows unchanged pages.",
    )
    select_all: Flag = Field(
        default=False, description="All tables (no views); needs a method here."
    )
    exclude: Names = Field(default=(), description="Tables or patterns never taken.")
    tables: Annotated[dict[str, TableConfig], BeforeValidator(_table_settings)] = Field(
        default_factory=dict, description="schema.table or a pattern, and its settings."
    )

    @property
    def fixed_databases(self) -> tuple[str, ...] | None:
        """The databases, None when one of them is a pattern."""
        return None if any(map(is_pattern, self.databases)) else self.databases


class IngestConfig(Strict):
    """The whole file. Paths are absolute once loaded."""

    _file: Path | None = PrivateAttr(default=None)

    destination: Annotated[DuckDbDestination, BeforeValidator(_destination)] = Field(
        description="Where the rows go."
    )
    state_dir: LocalPath = Field(
        default=Path(".pg_ingest"),
        validate_default=True,
        description="Folder of the change log and of what was discovered.",
    )
    sources: dict[str, SourceConfig] = Field(
        description="Database servers by name: letters, digits and _."
    )

    @property
    def file(self) -> Path | None:
        """The file it was loaded from, None when it was not."""
        return self._file

    def loaded_from(self, file: Path) -> Self:
        """The same, knowing its file, so that problems found later can name lines."""
        known = self.model_copy()
        known._file = file
        return known
