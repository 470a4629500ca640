"""Log based: one snapshot, then every change from the change log.

A table joins with a snapshot that replaces whatever is stored. From then on its changes are taken from
our change log, not from the source (`log_steps.py`). How snapshot and log meet is told in
`changelog/handover.py`.

A table without a key must have REPLICA IDENTITY FULL; it is kept as a multiset.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from pg_ingest.batch import Batch, Everything, Reading
from pg_ingest.bookmark import Bookmark, LogBasedBookmark, Partition, method_of
from pg_ingest.changelog.fold import LSN
from pg_ingest.changelog.states import stored_fields
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.errors import MethodUnavailable, SourceBusy
from pg_ingest.lsn import Lsn
from pg_ingest.methods.all_rows import all_rows, all_rows_now
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.columns import chosen_columns
from pg_ingest.methods.log_steps import refuse_patterns
from pg_ingest.methods.partitions import came_with_rows, went_or_emptied
from pg_ingest.methods.rows import of_these_files
from pg_ingest.methods.shape import (
    ReadAnew,
    highest_number,
    logged,
)
from pg_ingest.postgres.anchor import anchored
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.partitions import partitions_of
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Anchor, Snapshot
from pg_ingest.postgres.storage import digest, files_of, files_seen
from pg_ingest.postgres.table_marks import marks_of
from pg_ingest.postgres.timeline import timeline_of
from pg_ingest.postgres.value_texts import value_texts
from pg_ingest.table import Column, ReplicaIdentity, Table


@contextmanager
def snapshot(
    session: Session,
    replication: Replication,
    table: Table,
    *,
    inserts_only: bool = False,
    anchor: Anchor | None = None,
) -> Iterator[Reading]:
    """All rows of the table at one moment, and the bookmark from which the log continues.

    The slot must exist and the publication must carry the table; `inserts_only` when it carries no updates and
    deletes; `anchor`: the moment, which on a standby must be one whose place in the log is known. Raises
    MethodUnavailable for a table without a usable key, PermissionMissing, SourceTableChanged, QueryRefused.
    """
    begin = beginning(session, replication, table, inserts_only=inserts_only)
    if anchor is not None:
        with _anchored_rows(session, replication, table, begin, anchor) as reading:
            yield reading
        return
    joined = joining(session, table, begin)
    with all_rows(session, replication, table, begin.columns) as rows:
        yield Reading(
            schema=begin.schema,
            batches=begin.dress(rows.batches, rows.snapshot.lsn),
            scope=Everything(),
            bookmark=joined(rows.snapshot, rows.files),
            phase="snapshot",
            position_to=str(rows.snapshot.lsn),
            notes=list(begin.notes),
        )


@contextmanager
def _anchored_rows(
    session: Session, replication: Replication, table: Table, begin: Beginning, anchor: Anchor
) -> Iterator[Reading]:
    with session.snapshot(anchor=anchor) as seen:
        bookmark = _at_anchor(session, table, begin, seen)
        batches = all_rows_now(session, table, begin.columns, replication.where)
        same = of_these_files(session, table, files_seen(session, table), batches)
        yield Reading(
            schema=begin.schema,
            batches=begin.dress(same, seen.lsn),
            scope=Everything(),
            bookmark=bookmark,
            phase="snapshot",
            position_to=str(seen.lsn),
            notes=list(begin.notes),
        )


def _at_anchor(
    session: Session, table: Table, begin: Beginning, seen: Snapshot
) -> LogBasedBookmark:
    """The bookmark of rows in the snapshot that the session is in, with the catalogue as that sees it.

    Raises SourceBusy when the table's columns are others by now: rows and log would not fit together.
    """
    anchor = seen.anchor
    assert anchor is not None
    if describe(session, table.id).columns != table.columns:
        raise SourceBusy(
            f"{table.id} was altered just when it joined the log",
            detail=f"its columns were others at {seen.lsn}",
            hint="nothing was stored; it is tried again",
        )
    bookmark = joining(session, table, begin)(seen, files_seen(session, table))
    return replace(
        bookmark,
        lsn=str(Lsn(anchor.lsn - 1)),
        snapshot_xmin=0,
        snapshot_xmax=0,
        snapshot_in_progress=(),
        asked_lsn=str(anchor.asked_at),
    )


def beginning(
    session: Session, replication: Replication, table: Table, *, inserts_only: bool = False
) -> Beginning:
    """What the first load of the table reads; raises as `snapshot` does."""
    chosen = chosen_columns(session, replication, table)
    columns = tuple(column for column in chosen if not column.generated)
    refuse_patterns(replication, columns)
    key = replication.key or table.primary_key if inserts_only else _key(replication, table)
    _check_key_read(table, key, columns)
    soft = replication.shape is Shape.SOFT_DELETE
    schema = pa.schema([*arrow_schema(columns), *stored_fields(soft=soft)])

    def position() -> LogBasedBookmark:
        if session.is_standby:
            with anchored(session) as anchor, session.snapshot(anchor=anchor) as seen:
                return _at_anchor(session, table, begin, seen)
        joined = joining(session, table, begin)
        files = files_of(session, table)
        with session.snapshot() as seen:
            return joined(seen, files)

    begin = Beginning(
        columns=columns,
        schema=schema,
        key=key,
        unproven_key=(),
        dress=lambda batches, lsn: _with_lsn(batches, schema, lsn),
        position=position,
        settings=_settings(replication),
        notes=tuple(_left_out(chosen)),
    )
    return begin


@dataclass(frozen=True, slots=True)
class _Place:
    """What a bookmark says of the table and the server, as they were before the snapshot."""

    attributes: str
    numbers: int
    timeline: int
    texts: tuple[str, ...]


def _place(session: Session, table: Table) -> _Place:
    marks = marks_of(session, [table.oid]).get(table.oid)
    attributes = "" if marks is None else marks.attributes
    texts = value_texts(session, table.columns)
    return _Place(attributes, highest_number(table), timeline_of(session), texts)


Joining = Callable[[Snapshot, Mapping[int, int | None]], LogBasedBookmark]
"""The bookmark of rows that a snapshot sees, and that are in these files."""


def joining(session: Session, table: Table, begin: Beginning) -> Joining:
    """What the bookmark will say, looked up now: it must be called before the snapshot is taken."""
    partitions, place = partitions_of(session, table), _place(session, table)
    return lambda seen, files: _joined(begin, place, seen, files, partitions)


def _joined(
    begin: Beginning,
    place: _Place,
    seen: Snapshot,
    files: Mapping[int, int | None],
    partitions: tuple[Partition, ...],
) -> LogBasedBookmark:
    """The bookmark of rows as that snapshot sees them."""
    return LogBasedBookmark(
        lsn=str(Lsn(0)),
        sequence=-1,
        snapshot_xmin=seen.xmin,
        snapshot_xmax=seen.xmax,
        snapshot_in_progress=seen.in_progress,
        joined_lsn=str(seen.lsn),
        columns=logged(begin.columns),
        key=begin.key,
        settings=begin.settings,
        files=digest(files),
        partitions=partitions,
        attributes=place.attributes,
        numbers=place.numbers,
        timeline=place.timeline,
        texts=place.texts,
    )


def _left_out(columns: Sequence[Column]) -> list[str]:
    names = [column.name for column in columns if column.generated]
    return [f"generated columns are not in the log: {', '.join(names)} left out"] if names else []


def _key(replication: Replication, table: Table) -> tuple[str, ...]:
    """What old tuples in the log identify a row by, () for all columns."""
    key = replication.key or table.primary_key or table.identity_columns
    if table.identity is ReplicaIdentity.FULL:
        return key
    if not table.identity_columns or not set(key) <= set(table.identity_columns):
        raise MethodUnavailable(
            f"{table.id}: the log does not tell old rows apart by ({', '.join(key)})",
            detail=f"replica identity {table.identity.value}: ({', '.join(table.identity_columns)})",
            hint="use the columns of the replica identity as `key`, or ALTER TABLE … REPLICA IDENTITY FULL",
        )
    return table.identity_columns


def _check_key_read(table: Table, key: Sequence[str], columns: Sequence[Column]) -> None:
    read = {column.name for column in columns}
    lost = [name for name in key if name not in read]
    if lost:
        raise MethodUnavailable(
            f"{table.id}: {', '.join(lost)} of the key is not among the columns that are replicated",
            detail=f"rows are told apart by ({', '.join(key)})",
            hint="add it to `columns`, or take it out of `exclude_columns`",
        )


def _with_lsn(batches: Iterator[Batch], schema: pa.Schema, lsn: Lsn) -> Iterator[Batch]:
    """Our own columns beside the data: the snapshot's position, and not deleted."""
    for batch in batches:
        own = schema.names[batch.rows.num_columns :]
        arrays = [
            pa.repeat(pa.scalar(int(lsn), pa.int64()), batch.rows.num_rows)
            if name == LSN
            else pa.nulls(batch.rows.num_rows, schema.field(name).type)
            for name in own
        ]
        rows = pa.RecordBatch.from_arrays([*batch.rows.columns, *arrays], schema=schema)
        yield Batch(rows, batch.rejected, batch.size)


def other_settings(replication: Replication, bookmark: Bookmark) -> str:
    """Why the stored rows are not those that these settings continue; empty when they are."""
    if not isinstance(bookmark, LogBasedBookmark):
        return f"the method was {method_of(bookmark)} before"
    if bookmark.settings == _settings(replication):
        return ""
    return "columns, key, shape or row filter are set otherwise than when it was read last"


def with_partitions(session: Session, table: Table, bookmark: LogBasedBookmark) -> LogBasedBookmark:
    """The bookmark with the table's partitions as they are now; others for other relations are none.

    Raises `shape.ReadAnew` when rows came or went with a partition: the log does not tell these. Rows that came
    into a partition after it was attached are in the log.
    """
    now = partitions_of(session, table)
    if now == bookmark.partitions:
        return bookmark
    reasons = [
        went_or_emptied(bookmark.partitions, now),
        came_with_rows(session, table, bookmark.partitions, now),
    ]
    if any(reasons):
        raise ReadAnew(f"partitions {'; '.join(filter(None, reasons))}")
    files = {table.oid: None, **{one.oid: one.file or None for one in now}}
    return replace(bookmark, partitions=now, files=digest(files))


def _settings(replication: Replication) -> str:
    """What the stored rows were chosen by, in one text."""
    return json.dumps(
        {
            "columns": replication.columns,
            "exclude_columns": replication.exclude_columns,
            "key": replication.key,
            "shape": replication.shape,
            "where": replication.where,
        }
    )
