"""Log based: one snapshot, then every change from the change log.

A table joins with a snapshot that replaces whatever is stored. From then on its changes are taken from
our change log, not from the source: fold them to the last states, apply, move the bookmark, in one
transaction of the destination for each step. A step ends where the table's shape changes or when it has
STEP_ROWS changes, in the middle of a large transaction if need be, so memory is bounded by a step. The
bookmark names the last change applied, so a step that failed is simply done again.

How snapshot and log meet is told in `changelog/handover.py`, how changes fold in `changelog/fold.py`.

A table without a key must have REPLICA IDENTITY FULL; it is kept as a multiset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import polars as pl
import pyarrow as pa

from pg_ingest.batch import Batch, Changes, Counts, Everything, Reading, Reshape
from pg_ingest.bookmark import Bookmark, LogBasedBookmark, Partition, method_of
from pg_ingest.changelog.chosen import without_columns
from pg_ingest.changelog.fold import LSN, OP, SEQUENCE, count, fold
from pg_ingest.changelog.handover import still_to_apply
from pg_ingest.changelog.states import counted_rows, keyed_rows, stored_fields
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.decode.messages import RESERVED
from pg_ingest.decode.types import arrow_schema
from pg_ingest.errors import MethodUnavailable, SourceTableChanged
from pg_ingest.lsn import Lsn
from pg_ingest.methods.all_rows import all_rows
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.columns import chosen_columns
from pg_ingest.methods.filtered import Passing, check_sent, filter_counts, filter_states
from pg_ingest.methods.partitions import came_with_rows, went_or_emptied
from pg_ingest.methods.shape import (
    Difference,
    ReadAnew,
    check_identity,
    difference,
    logged,
)
from pg_ingest.methods.unsaid import Ask, say, take_unsaid
from pg_ingest.postgres.partitions import partitions_of
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.postgres.storage import digest, files_of
from pg_ingest.table import Column, ReplicaIdentity, Table, TableId

STEP_ROWS = 250_000
"""Changes in one step: the fold and the decoded rows of wide tables stay under 200 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Changes of one table while it had one shape, in the order of the log.

    Attributes:
        oid, id: the table's.
        columns: the published columns then, with types as the server has them now.
        identity: those of them that old tuples carry.
        rows: as `decode.messages.Changes.rows`.
        size: bytes in the log.
    """

    oid: int
    id: TableId
    columns: tuple[Column, ...]
    identity: frozenset[str]
    rows: pl.DataFrame
    size: int


Reread = Callable[[Piece, pl.DataFrame, Sequence[str]], pl.DataFrame]
"""For the keys of a piece's rows, the values of these columns now; see `postgres.reread`."""


@contextmanager
def snapshot(
    session: Session, replication: Replication, table: Table, *, inserts_only: bool = False
) -> Iterator[Reading]:
    """All rows of the table at one moment, and the bookmark from which the log continues.

    The slot must exist and the publication must carry the table; `inserts_only` when it carries no updates and
    deletes. Raises MethodUnavailable for a table
    without a usable key, PermissionMissing, SourceTableChanged, QueryRefused.
    """
    begin = beginning(session, replication, table, inserts_only=inserts_only)
    partitions = partitions_of(session, table)
    with all_rows(session, replication, table, begin.columns) as rows:
        yield Reading(
            schema=begin.schema,
            batches=begin.dress(rows.batches, rows.snapshot.lsn),
            scope=Everything(),
            bookmark=_joined(begin, rows.snapshot, rows.files, partitions),
            phase="snapshot",
            position_to=str(rows.snapshot.lsn),
            notes=list(begin.notes),
        )


def beginning(
    session: Session, replication: Replication, table: Table, *, inserts_only: bool = False
) -> Beginning:
    """What the first load of the table reads; raises as `snapshot` does."""
    chosen = chosen_columns(session, replication, table)
    columns = tuple(column for column in chosen if not column.generated)
    _refuse_patterns(replication, columns)
    key = replication.key or table.primary_key if inserts_only else _key(replication, table)
    _check_key_read(table, key, columns)
    soft = replication.shape is Shape.SOFT_DELETE
    schema = pa.schema([*arrow_schema(columns), *stored_fields(soft=soft)])

    def position() -> LogBasedBookmark:
        partitions, files = partitions_of(session, table), files_of(session, table)
        with session.snapshot() as seen:
            return _joined(begin, seen, files, partitions)

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


def _joined(
    begin: Beginning,
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


def _unfiltered(_piece: Piece, _columns: Sequence[Column]) -> None:
    return None


def _cannot_ask(_keys: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    raise ReadAnew(f"{', '.join(columns)} are not told by the log")


def steps(
    replication: Replication,
    bookmark: LogBasedBookmark,
    pieces: Iterable[Piece],
    look: Callable[[Piece, Difference, LogBasedBookmark], pa.RecordBatch | None],
    passing: Callable[[Piece, Sequence[Column]], Passing | None] = _unfiltered,
    *,
    inserts_only: bool = False,
    reread: Reread | None = None,
) -> Iterator[Reading]:
    """What must be applied of `pieces`, one Reading a step; each bookmark follows from the one before.

    Args:
        look: `shape.fills` with the source at hand, asked when the table's columns have changed.
        passing: the row filter for a piece and its chosen columns; None where there is none, or where the
            log has only rows that pass.
        inserts_only: no old rows are published, so no identity is needed.
        reread: `postgres.reread` with the source at hand, for values that the log did not tell.

    Raises `shape.ReadAnew` when only a new snapshot can go on from here.
    """
    for piece in pieces:
        rows = still_to_apply(piece.rows, bookmark)
        if not len(rows):
            continue
        columns = _chosen(replication, piece.columns)
        if len(columns) < len(piece.columns):
            chosen = {column.name for column in columns}
            rows = without_columns(rows, [c.name for c in piece.columns if c.name not in chosen])
        reshape = Reshape()
        change = difference(bookmark.columns, columns)
        if change is not None:
            reshape = Reshape(change.renamed, look(piece, change, bookmark))
        if not inserts_only:
            check_identity(_renamed(bookmark.key, reshape), piece.columns, piece.identity)
        if replication.where is not None:
            check_sent(rows)
        asked = passing(piece, columns)
        ask = partial(reread, piece) if reread is not None else _cannot_ask
        for part in _parts(rows):
            size = round(piece.size * len(part) / max(len(piece.rows), 1))
            bookmark, reading = _step(
                replication, bookmark, columns, part, size, reshape, asked, ask
            )
            yield reading
            reshape = Reshape()


def _parts(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """At most STEP_ROWS and one: an old tuple and the new one after it are never torn apart."""
    start = 0
    while start < len(rows):
        length = min(STEP_ROWS, len(rows) - start)
        length += rows.item(start + length - 1, OP) == "b"
        yield rows.slice(start, length)
        start += length


def _chosen(replication: Replication, columns: Sequence[Column]) -> tuple[Column, ...]:
    wanted = None if replication.columns is None else frozenset(replication.columns)
    chosen = tuple(
        column
        for column in columns
        if (wanted is None or column.name in wanted)
        and column.name not in replication.exclude_columns
    )
    taken = [column.name for column in chosen if column.name.startswith(RESERVED)]
    if taken:
        raise SourceTableChanged(
            f"{replication.table} has a column that only this program may have: {', '.join(taken)}",
            detail=f"names that start with {RESERVED} are kept for system columns; the log leaves them out",
            hint="list it under exclude_columns, or rename it at the source; the table is then read anew",
        )
    _refuse_patterns(replication, chosen)
    return chosen


def _refuse_patterns(replication: Replication, columns: Sequence[Column]) -> None:
    """`*` and `^…$` are no names to Polars but patterns that mean other columns too."""
    patterns = [c.name for c in columns if c.name == "*" or re.fullmatch(r"\^.*\$", c.name, re.S)]
    if patterns:
        raise SourceTableChanged(
            f"{replication.table} has columns that log-based replication cannot tell apart:"
            f" {', '.join(patterns)}",
            detail="a name that is `*`, or begins with ^ and ends with $, is a pattern for the fold",
            hint="list it under exclude_columns, rename it at the source, or choose another method",
        )


def _step(
    replication: Replication,
    bookmark: LogBasedBookmark,
    columns: tuple[Column, ...],
    rows: pl.DataFrame,
    size: int,
    reshape: Reshape,
    passing: Passing | None,
    ask: Ask,
) -> tuple[LogBasedBookmark, Reading]:
    soft = replication.shape is Shape.SOFT_DELETE
    key = _renamed(bookmark.key, reshape)
    rows, unsaid = take_unsaid(rows, key, [column.name for column in columns])
    scope: Changes | Counts
    if key:
        folded = fold(rows, key)
        if unsaid is not None:
            folded = say(folded, unsaid, key, ask)
        if passing is not None:
            folded = filter_states(folded, key, passing)
        batch = keyed_rows(folded.states, columns, key, soft=soft, size=size)
        scope = Changes(key, folded.truncated, soft, reshape)
    else:
        counted = count(rows, [column.name for column in columns])
        if passing is not None:
            counted = filter_counts(counted, passing)
        batch = counted_rows(counted.rows, columns, soft=soft, size=size)
        scope = Counts(counted.truncated, soft, reshape)
    lsn, sequence = rows.select(pl.last(LSN), pl.last(SEQUENCE)).row(0)
    after = replace(
        bookmark,
        lsn=str(Lsn(lsn)),
        sequence=sequence,
        key=key,
        columns=logged(columns, bookmark.columns),
    )
    return after, Reading(
        schema=batch.rows.schema,
        batches=iter([batch]),
        scope=scope,
        bookmark=after,
        phase="changes",
        position_from=bookmark.lsn,
        position_to=str(Lsn(lsn)),
    )


def _renamed(key: tuple[str, ...], reshape: Reshape) -> tuple[str, ...]:
    now = dict(reshape.renamed)
    return tuple(now.get(name, name) for name in key)
