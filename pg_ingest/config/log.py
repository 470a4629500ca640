"""The settings of log-based replication."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from pg_ingest.config.names import Name
from pg_ingest.config.problem import refuse
from pg_ingest.config.schedule import Interval
from pg_ingest.config.size import Size
from pg_ingest.config.strict import Flag, Strict
from pg_ingest.lsn import Lsn


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
    table: Name | None = Field(
        default=None, description="schema.table to write to, for mode table."
    )
    mode: HeartbeatMode = Field(
        default=HeartbeatMode.MESSAGE,
        description="message: pg_logical_emit_message; table: a row of `table`.",
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


def _lsn(value: str) -> str:
    try:
        return str(Lsn.parse(value))
    except ValueError:
        raise refuse("is not a WAL position", 'write it in quotes: "16/B374D848"') from None


class LogConfig(Strict):
    """Log-based replication of a source."""

    plugin: Plugin = Field(default=Plugin.PGOUTPUT, description="Output plugin of the slot.")
    publication: Annotated[Name, Field(max_length=63)] = Field(
        default="pg_ingest", description="Publication, for pgoutput."
    )
    slot: Annotated[str, AfterValidator(_slot)] = Field(
        default="pg_ingest_{database}", description="Name of the slot in each database."
    )
    reader: Reader = Field(
        default=Reader.SQL, description="sql is faster; stream is the replication protocol."
    )
    heartbeat: Heartbeat | None = Field(default=None, description="Keeps an idle slot moving.")
    start_lsn: Annotated[str, AfterValidator(_lsn)] | None = Field(
        default=None,
        description="Where the first capture from an existing slot begins: 16/B374D848.",
    )
    narrow: Flag = Field(
        default=False,
        description="Publish only the chosen columns and rows (15 and newer); see what it costs the table.",
    )
    lag_sync: Size = Field(
        default=256 << 20,
        ge=1,
        description="WAL behind which the slot's sensor starts a sync.",
        json_schema_extra={"default": "256MB"},
    )
    lag_warn: Size = Field(
        default=4 << 30,
        ge=1,
        description="WAL kept for the slot at which its sensor warns.",
        json_schema_extra={"default": "4GB"},
    )
    keep: Interval = Field(
        default=timedelta(days=1),
        description="How long applied changes stay in the change log.",
        json_schema_extra={"default": "1d"},
    )
    keep_size: Size | None = Field(
        default=None,
        description="Size of the change log above which applied changes go before that, oldest first.",
    )

    def slot_name(self, database: str) -> str:
        """The slot of that database: `slot` filled in, made a valid and distinct slot name."""
        wanted = self.slot.replace("{database}", database)
        if _SLOT_TEXT.fullmatch(wanted):
            return wanted
        mark = hashlib.sha256(wanted.encode()).hexdigest()[:8]
        return f"{re.sub(r'[^a-z0-9_]', '_', wanted.lower())[:54]}_{mark}"
