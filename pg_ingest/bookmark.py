"""How far a table has been replicated: one frozen shape per method, JSON in the destination.

A bookmark of one method is never read as another's: the JSON carries the method's name, and a
mismatch is a `BookmarkUnusable`, never a silent restart.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pg_ingest.errors import BookmarkUnusable


@dataclass(frozen=True, slots=True)
class FullTableBookmark:
    """The last full copy: WAL position and time of its snapshot (ISO 8601, UTC)."""

    snapshot_lsn: str
    snapshot_at: str


@dataclass(frozen=True, slots=True)
class PendingKey:
    """A key value that becomes the position once all `transactions` have ended.

    Attributes:
        value: the greatest key visible when they were listed (PostgreSQL's text).
        transactions: virtual transaction ids (`3/1524`) that were running then.
        xmax: `pg_snapshot_xmax` then, for standbys, where the primary's transactions hold no lock.
        standby: they were listed on a standby, so `transactions` says nothing and `xmax` counts.
    """

    value: str
    transactions: tuple[str, ...]
    xmax: int
    standby: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """A partition, at some level below its table.

    Attributes:
        oid: its own.
        file: `pg_relation_filenode`, 0 where it has none.
        attached: id (32 bits) of the transaction that attached it.
    """

    oid: int
    file: int
    attached: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What an ALTER TABLE of a table leaves behind; see `postgres/table_marks.py`.

    Attributes:
        files: a digest of the table's files, and its partitions'.
        attributes, computed: of its plain and its generated columns.
        numbers: of the columns that were read, in order.
    """

    files: str
    attributes: str
    computed: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyBasedBookmark:
    """Every row with a key below `position` has been read; rows at or above it are read next time.

    Attributes:
        column: the replication key.
        type: its declared type (`format_type`); another type makes the bookmark unusable.
        position: PostgreSQL's text of the key, None before the first row.
        pending: see `methods/key_based.py`, oldest first.
        columns, where: what was read; a new column or another filter means reading all rows again.
        key: the columns that identified a row; others make the bookmark unusable.
        partitions: whose rows were read, None where that is not known.
        pieces: to begin the next reading with, see `methods/pieces.py`.
        texts: of `postgres.value_texts`.
        server: as in XminBookmark.
        marks: of the table before they were read.
    """

    column: str
    type: str
    position: str | None
    pending: tuple[PendingKey, ...] = ()
    columns: tuple[str, ...] = ()
    where: str | None = None
    key: tuple[str, ...] = ()
    partitions: tuple[Partition, ...] | None = None
    pieces: int = 1
    texts: tuple[str, ...] = ()
    marks: Marks | None = None
    server: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotDiffBookmark:
    """What the source held at the last load: rows and checksums of ranges of the key.

    Attributes:
        snapshot_lsn, snapshot_at: WAL position and time (ISO 8601, UTC) of the snapshot.
        server_major: major version of the server that made the checksums.
        recipe: version of the way they are made.
        seed: a random 64-bit number that goes into every checksum.
        columns: names and types of what was read, in order.
        key: the columns that identify a row; `cut_by`: the first ones of them, which the bounds are of.
        where: the row filter.
        ranges: bounds, rows and checksums as `methods/key_ranges.py` packs them.
        pieces: to begin the next reading with, see `methods/pieces.py`.
    """

    snapshot_lsn: str
    snapshot_at: str
    server_major: int
    recipe: int
    seed: int
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    cut_by: tuple[str, ...]
    where: str | None
    ranges: str
    pieces: int = 1


@dataclass(frozen=True, slots=True)
class LoggedColumn:
    """A column as the stored rows have it; `attnum` recognises it when it is renamed."""

    name: str
    attnum: int
    type: str


@dataclass(frozen=True, slots=True)
class LogBasedBookmark:
    """All changes up to (`lsn`, `sequence`) have been applied to a snapshot of the table.

    Attributes:
        lsn: commit LSN of the last applied change, as text.
        sequence: the last applied change within that transaction, -1 for all of it.
        snapshot_xmin, snapshot_xmax, snapshot_in_progress: which transactions the snapshot saw; 64 bits.
            All zero for a snapshot of a standby, whose place in the log (`joined_lsn`) says the same.
        joined_lsn: every transaction that the snapshot saw has committed below this position.
        columns: as the stored rows have them.
        key: the columns that identify a row, () for none.
        settings: of the configuration, those that say which rows and columns are stored, and how.
        files: a digest of the table's files when it was read; another one after a rewrite.
        partitions: those whose rows are stored, or are told by the log.
        attributes: of `postgres.table_marks` when the columns were compared last, "" if never.
        numbers: the highest number of a column then.
        timeline: of the server that the snapshot was taken from, 0 where that is not known.
        asked_lsn: how far the log was when the snapshot was asked for, "" for as far as `joined_lsn`.
        texts: of `postgres.value_texts`.
    """

    lsn: str
    sequence: int
    snapshot_xmin: int
    snapshot_xmax: int
    snapshot_in_progress: tuple[int, ...]
    joined_lsn: str
    columns: tuple[LoggedColumn, ...]
    key: tuple[str, ...]
    settings: str = ""
    files: str = ""
    partitions: tuple[Partition, ...] = ()
    attributes: str = ""
    numbers: int = 0
    timeline: int = 0
    asked_lsn: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class XminBookmark:
    """Every row version that a transaction below `xmin` has written has been read. Ids have 64 bits.

    Attributes:
        xmin: no transaction below it was running, and none of its row versions can get lost in a crash.
        xmax: ids from here on had not been given out; the counter never goes back.
        server: system identifier, timeline and oid of the database (`7710408826381742521/00000001/5`), "" where
            the role may not ask for them.
        file: a digest of the table's own file; another one after a rewrite.
        partitions: whose rows have been read.
        columns, key, where: what was read, and by what a row is recognised.
        grouped: the key is shared by groups of rows, which are replaced together.
        pieces: to begin the next reading with, see `methods/pieces.py`.
        mapped: how far the log was on disk before the snapshot: pages that were marked in the visibility map by
            then may be skipped (`methods/unchanged_pages.py`); "" for none.
        texts: of `postgres.value_texts`.
    """

    xmin: int
    xmax: int
    server: str
    file: str
    partitions: tuple[Partition, ...]
    columns: tuple[LoggedColumn, ...]
    key: tuple[str, ...]
    where: str | None = None
    grouped: bool = False
    pieces: int = 1
    mapped: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeltaSnapshotBookmark(XminBookmark):
    """As XminBookmark, and the stored keys are those of the source.

    Attributes:
        rows: how many rows there were, None where deletes were not looked for, or some of the rows are of
            transactions from `xmin` on.
    """

    rows: int | None = None


Bookmark = (
    FullTableBookmark | KeyBasedBookmark | SnapshotDiffBookmark | LogBasedBookmark | XminBookmark
)

_METHODS: dict[str, type[Bookmark]] = {
    "full_table": FullTableBookmark,
    "key_based": KeyBasedBookmark,
    "snapshot_diff": SnapshotDiffBookmark,
    "log_based": LogBasedBookmark,
    "delta_snapshot": DeltaSnapshotBookmark,
    "xmin": XminBookmark,
}


def method_of(bookmark: Bookmark) -> str:
    """The name of the method this bookmark belongs to."""
    return next(name for name, shape in _METHODS.items() if type(bookmark) is shape)


def goes_on(bookmark: Bookmark, method: str) -> bool:
    """Whether the method can go on from it, if nothing else has changed.

    From its own; xmin and delta_snapshot from each other's, log_based from theirs and snapshot_diff's.
    """
    if isinstance(bookmark, XminBookmark):
        return method in ("xmin", "delta_snapshot", "log_based")
    if isinstance(bookmark, SnapshotDiffBookmark):
        return method in ("snapshot_diff", "log_based")
    return method_of(bookmark) == method


def dump(bookmark: Bookmark) -> str:
    """JSON text, stable key order, with the method's name inside."""
    return json.dumps({"method": method_of(bookmark), **asdict(bookmark)}, sort_keys=True)


def load(text: str) -> Bookmark:
    """Read what `dump` wrote; raise BookmarkUnusable for anything else."""
    try:
        fields: dict[str, Any] = json.loads(text)
        shape = _METHODS[fields.pop("method")]
        if shape is KeyBasedBookmark:
            fields["columns"] = tuple(fields["columns"])
            fields["key"] = tuple(fields["key"])
            fields["pending"] = tuple(
                PendingKey(**{**p, "transactions": tuple(p["transactions"])})
                for p in fields["pending"]
            )
            if fields.get("marks") is not None:
                numbers = tuple(fields["marks"]["numbers"])
                fields["marks"] = Marks(**{**fields["marks"], "numbers": numbers})
        if shape is SnapshotDiffBookmark:
            fields["columns"] = tuple((name, kind) for name, kind in fields["columns"])
            fields["key"] = tuple(fields["key"])
            fields["cut_by"] = tuple(fields["cut_by"])
        if shape is LogBasedBookmark:
            fields["columns"] = tuple(LoggedColumn(**column) for column in fields["columns"])
            fields["key"] = tuple(fields["key"])
            fields["snapshot_in_progress"] = tuple(fields["snapshot_in_progress"])
        if issubclass(shape, XminBookmark):
            fields["columns"] = tuple(LoggedColumn(**column) for column in fields["columns"])
            fields["key"] = tuple(fields["key"])
        if fields.get("partitions") is not None:
            fields["partitions"] = tuple(Partition(**one) for one in fields["partitions"])
        if "texts" in fields:
            fields["texts"] = tuple(fields["texts"])
        return shape(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BookmarkUnusable(
            "the stored bookmark cannot be read",
            detail=f"{type(error).__name__} in {text[:200]!r}",
            hint="it was written by another version or by hand; `pg-ingest reset TABLE` reloads the table",
        ) from error
