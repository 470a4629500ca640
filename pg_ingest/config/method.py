"""How a table is read and which form it takes: the words of the configuration."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """How the rows of a table are found; see docs/methods.md."""

    FULL_TABLE = "full_table"
    KEY_BASED = "key_based"
    LOG_BASED = "log_based"
    XMIN = "xmin"
    SNAPSHOT_DIFF = "snapshot_diff"
    DELTA_SNAPSHOT = "delta_snapshot"


class Shape(StrEnum):
    """What the table in the destination holds: the rows as they are now, or more."""

    LIVE = "live"
    SOFT_DELETE = "soft_delete"
    HISTORY = "history"
    APPEND = "append"
