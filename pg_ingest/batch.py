"""Rows on their way from a source to a destination, and what a load of them did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pg_ingest.bookmark import Bookmark

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("column", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),
    ]
)
"""A row that cannot be stored: the column at fault, why, and the row as JSON of PostgreSQL texts."""

LOGICAL_TYPE = b"pg_ingest.type"
"""Field metadata: the destination's more telling type for a text column: `json` or `uuid`."""

SYSTEM = b"pg_ingest.system"
"""Field metadata: a column of ours, not the source's: `stored` beside the data, or `control` of a scope."""

COMMENT = b"pg_ingest.comment"
"""Field metadata: the source column's comment."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of one table.

    Attributes:
        rows: typed by `decode.types`; a field's metadata may carry LOGICAL_TYPE and COMMENT.
        rejected: rows that cannot be stored (schema REJECTED_SCHEMA), or None.
        size: bytes as PostgreSQL sent them.
    """

    rows: pa.RecordBatch
    rejected: pa.RecordBatch | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Everything:
    """The staged rows are the table (of this database): all others go.

    `key` columns, if there are any, must be unique among the staged rows: later loads will go by them.
    """

    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """The staged rows are all rows with `start <= column < end`: the others in there go.

    `start` and `end` are ISO 8601 texts that the destination casts to the column's type.
    """

    column: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Each staged row takes the place of the row with its key, or is new; no other row is touched.

    Rows that are equal in every column already are left alone and not counted.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllKeys:
    """As Keys; beside that the stage names every key there is, so stored rows with another key go.

    The schema has, beside the table's columns, the control column `_pgi_listed` (bool: only the key is set, and
    says that its row is there still). Each key stands in the stage once, listed or with its row.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranges:
    """The staged rows are all rows whose key lies in some ranges: the others in there go.

    Rows that are equal in every column already are left alone and not counted. The ranges are what lies
    between `bounds`: from the first to before the second, from the third to before the fourth, and so on.
    Tuples of bounds are compared column by column: numbers, times and uuids as such, texts by their UTF-8
    bytes. With an odd number of bounds the last range has no end; without any bound nothing goes.

    Attributes:
        columns: the key.
        bounds: ascending; its columns are the first ones of the key. A string column means that the stored
            value is compared as text.
        open_start: there is one more range, of all keys below the first bound (all keys without bounds).
        stored: how many rows the source had in there at the load before; more here would mean that the
            two sides do not agree about an order.
    """

    columns: tuple[str, ...]
    bounds: pa.RecordBatch
    open_start: bool
    stored: int


@dataclass(frozen=True, slots=True)
class Groups:
    """The staged rows are all rows with their keys, which need not be unique: the others with one of these go.

    Groups that are equal as multisets are left alone and not counted.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reshape:
    """Stored columns follow the source's: renamed ones first, then added ones get their value.

    Attributes:
        renamed: old and new names.
        fills: one row: the value of each new column in all stored rows, None when all are NULL.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    fills: pa.RecordBatch | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Each staged row says what has become of the row with its key.

    The schema has, beside the table's columns, the control columns `_pgi_present` (bool: the row is
    there now; if not, only its key is set), `_pgi_unchanged` (list of columns whose value must be taken
    from the stored row, null for none) and `_pgi_base` (struct of key columns: which stored row that is).

    Attributes:
        columns: the key.
        truncated: before that, all rows go.
        soft: rows that go stay, with the time in `_pgi_deleted_at`.
        reshape: what the stored rows need before anything else.
        mixed: the stored rows are of several moments, so a row that a value must be taken from may be gone
            already; it is left NULL then, and a later change takes the row away.
    """

    columns: tuple[str, ...]
    truncated: bool = False
    soft: bool = False
    reshape: Reshape = Reshape()
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Each staged row says how many rows equal to it come or go; for tables without a key.

    The schema has, beside the table's columns, the control column `_pgi_count` (int64, above or below 0).
    `truncated`, `soft` and `reshape` as in Changes.
    """

    truncated: bool = False
    soft: bool = False
    reshape: Reshape = Reshape()


@dataclass(frozen=True, slots=True)
class Joined:
    """As `within`; then all rows, those that stay too, have this value in a stored column of ours.

    The staged rows are without the column.
    """

    within: Keys | AllKeys | Ranges
    column: str
    value: int


Scope = Everything | Window | Keys | AllKeys | Groups | Ranges | Changes | Counts | Joined
"""Which stored rows the staged ones replace."""


@dataclass(slots=True)
class Reading:
    """A method's answer to "what must be stored now?".

    Attributes:
        schema: Arrow schema of `batches`' rows.
        batches: read once, lazily, in bounded memory; the source connection stays open meanwhile.
        scope: what they replace.
        bookmark: stored in the same transaction as the rows, None to leave it as it was.
        phase: `snapshot`, `incremental`, `window`, `changes`, or `historical` (a first load in chunks).
        position_from, position_to: for people, e.g. key values or WAL positions; "" for none.
        notes: what the user should know (a held-back bookmark, a skipped column), one line each.
    """

    schema: pa.Schema
    batches: Iterator[Batch]
    scope: Scope
    bookmark: Bookmark | None
    phase: str
    position_from: str = ""
    position_to: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What one commit did to the destination table, in rows; `total` is its row count afterwards.

    With several databases in one table `total` counts the rows of this database.
    """

    inserted: int
    updated: int
    deleted: int
    rejected: int
    total: int

    @property
    def changed(self) -> bool:
        """Whether anything is different from before."""
        return bool(self.inserted or self.updated or self.deleted or self.rejected)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """One finished load, as it stands in `_pgi.loads` and in the asset's metadata.

    Attributes:
        rows_read, bytes_read: what came from the source, rejected rows included; bytes as
            PostgreSQL sent them.
        duration_s: seconds, from the first statement at the source to the commit.
    """

    counts: LoadCounts
    rows_read: int
    bytes_read: int
    duration_s: float
    phase: str
    position_from: str
    position_to: str
    notes: tuple[str, ...] = ()
    lag_bytes: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
