"""Log based, after the snapshot: what has to be applied, step by step.

Changes are folded to the last states, applied, and the bookmark moved, in one transaction of the
destination for each step. A step ends where the table's shape changes or when it has STEP_ROWS changes, in the
middle of a large transaction if need be, so memory is bounded by a step. The bookmark names the last change
applied, so a step that failed is simply done again. How changes fold is told in `changelog/fold.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl
import pyarrow as pa

from pg_ingest.batch import Changes, Counts, Reading, Reshape
from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.chosen import without_columns
from pg_ingest.changelog.fold import LSN, OP, SEQUENCE, count, fold
from pg_ingest.changelog.handover import still_to_apply
from pg_ingest.changelog.states import counted_rows, keyed_rows
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.decode.messages import RESERVED
from pg_ingest.errors import SourceTableChanged
from pg_ingest.lsn import Lsn
from pg_ingest.methods.filtered import Passing, check_sent, filter_counts, filter_states
from pg_ingest.methods.shape import (
    Difference,
    ReadAnew,
    check_identity,
    difference,
    logged,
)
from pg_ingest.methods.unsaid import Ask, say, take_unsaid
from pg_ingest.table import Column, Table, TableId

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


def logged_of(replication: Replication, table: Table) -> tuple[Column, ...]:
    """The columns that the log brings of a table as it is now; raises SourceTableChanged."""
    return _chosen(replication, table.columns)


def _chosen(replication: Replication, columns: Sequence[Column]) -> tuple[Column, ...]:
    wanted = None if replication.columns is None else frozenset(replication.columns)
    chosen = tuple(
        column
        for column in columns
        if (wanted is None or column.name in wanted)
        and column.name not in replication.exclude_columns
        and not column.generated
    )
    taken = [column.name for column in chosen if column.name.startswith(RESERVED)]
    if taken:
        raise SourceTableChanged(
            f"{replication.table} has a column that only this program may have: {', '.join(taken)}",
            detail=f"names that start with {RESERVED} are kept for system columns; the log leaves them out",
            hint="list it under exclude_columns, or rename it at the source; the table is then read anew",
        )
    refuse_patterns(replication, chosen)
    return chosen


def refuse_patterns(replication: Replication, columns: Sequence[Column]) -> None:
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
