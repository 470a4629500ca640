"""A table was altered, and no row has changed since: the catalogue tells what the log cannot.

`shape.py` works out what a change of columns means when the log shows a row of the new shape. Until then the
stored rows would be those from before; and what leaves names and types alone would never be seen. So at
each sync the catalogue is compared with the bookmark, by what one question for all tables brought when the
log was captured (`postgres/table_marks.py`):

`key_based` has the same trouble with rows below its position, and asks the same (`values_changed`). In the log:

- *Before* the log is applied: whatever only a new snapshot can mend means reading anew at once. What is there
  now is also what is there after the last change, so nothing that the log still holds can undo it.
- *After* it: what can be followed (renamed and added columns, another length) is followed, as if a row of
  this shape had come. The table must look the same before the capture and now: then the log holds no change
  of an older shape behind what was applied, nor was a newer one applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from pg_ingest.batch import Changes, Counts, Reading, Reshape
from pg_ingest.bookmark import LogBasedBookmark, Marks
from pg_ingest.changelog.fold import count, fold
from pg_ingest.changelog.log import NO_CHANGES
from pg_ingest.changelog.states import counted_rows, keyed_rows
from pg_ingest.config.method import Shape
from pg_ingest.config.selection import Replication
from pg_ingest.methods.shape import (
    Difference,
    ReadAnew,
    difference,
    highest_number,
    logged,
    refuse_unread,
)
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.storage import digest, files_of
from pg_ingest.postgres.table_marks import TableMarks, marks_of
from pg_ingest.table import Column, RelationKind, Table


def marks_now(session: Session, table: Table, columns: Sequence[Column]) -> Marks | None:
    """What a bookmark of these columns remembers of the table; None where it is not there any more."""
    marks = marks_of(session, [table.oid]).get(table.oid)
    if marks is None:
        return None
    numbers = tuple(column.attnum for column in columns)
    return Marks(digest(files_of(session, table)), marks.attributes, marks.computed, numbers)


def values_changed(
    old: Marks | None, names: Sequence[str], now: Marks | None, columns: Sequence[Column]
) -> str:
    """Why rows that nobody wrote may read otherwise than when the columns `names` were read; "" if not."""
    if old is None or now is None:
        return ""
    known = dict(zip(names, old.numbers, strict=True))
    others = [c.name for c in columns if known.get(c.name, c.attnum) != c.attnum]
    if others:
        return f"other columns are called {', '.join(others)} now"
    if old.computed != now.computed:
        return "generated columns were altered"
    if old.files != now.files and old.attributes != now.attributes:
        return "columns were altered and the table was rewritten"
    return ""


def noticed(
    bookmark: LogBasedBookmark, table: Table, columns: Sequence[Column], marks: TableMarks
) -> LogBasedBookmark:
    """The bookmark with the table's marks as they are now; `columns` are those that the log should bring.

    Raises ReadAnew when stored values may be others than the table's.
    """
    change = difference(bookmark.columns, columns)
    if change is not None:
        refuse_unread(change.added, bookmark)
    if not bookmark.attributes:
        return bookmark
    now = marked(bookmark, table, marks)
    if now.files != bookmark.files and now.attributes != bookmark.attributes:
        raise ReadAnew("columns were altered and the table was rewritten: its values may be others")
    return bookmark if change is not None else now


def marked(bookmark: LogBasedBookmark, table: Table, marks: TableMarks) -> LogBasedBookmark:
    """The bookmark of rows that are as the table is now; the files of partitions are compared elsewhere."""
    files = bookmark.files
    if table.kind is not RelationKind.PARTITIONED:
        files = digest({table.oid: marks.file})
    numbers = highest_number(table)
    return replace(bookmark, files=files, attributes=marks.attributes, numbers=numbers)


def to_follow(bookmark: LogBasedBookmark, columns: Sequence[Column]) -> Difference | None:
    """What stored rows lack of the table's shape, None when that is nothing."""
    change = difference(bookmark.columns, columns)
    return change if change is not None and change != Difference() else None


def reshaped(
    replication: Replication,
    bookmark: LogBasedBookmark,
    table: Table,
    columns: Sequence[Column],
    marks: TableMarks,
    look: Callable[[Difference], pa.RecordBatch | None],
) -> Reading | None:
    """A step without rows that gives the stored ones the table's shape; None when they have it.

    `look`: `shape.fills` with the source at hand. Raises ReadAnew.
    """
    change = to_follow(bookmark, columns)
    if change is None:
        return None
    reshape = Reshape(change.renamed, look(change))
    names = dict(change.renamed)
    key = tuple(names.get(name, name) for name in bookmark.key)
    soft = replication.shape is Shape.SOFT_DELETE
    rows = pl.DataFrame(schema={**NO_CHANGES, **{c.name: pl.String() for c in columns}})
    scope: Changes | Counts
    if key:
        batch = keyed_rows(fold(rows, key).states, columns, key, soft=soft, size=0)
        scope = Changes(key, soft=soft, reshape=reshape)
    else:
        counted = count(rows, [column.name for column in columns])
        batch = counted_rows(counted.rows, columns, soft=soft, size=0)
        scope = Counts(soft=soft, reshape=reshape)
    after = replace(bookmark, key=key, columns=logged(columns, bookmark.columns))
    return Reading(
        schema=batch.rows.schema,
        batches=iter([batch]),
        scope=scope,
        bookmark=marked(after, table, marks),
        phase="changes",
        position_from=bookmark.lsn,
        position_to=bookmark.lsn,
    )
