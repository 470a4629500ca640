"""A table's columns changed while the log went on: what the stored rows need before the next change.

The log shows each change of a row in the shape that the table had then, but not the ALTER TABLE between
them. So where a piece has other columns than the stored rows, the difference is worked out here:

- A column is recognised by its `attnum`: a name that is gone and a new one with the same number is a rename.
- A dropped column stays in the destination as it was.
- A column that was added without rewriting the table shows the same value in all rows that were there:
  NULL, or the default of that moment, which the server keeps in `attmissingval` for this very purpose.
- Another length or precision of the same type, or another of `text` and `varchar`, leaves every value's text as
  it was, unless the table is rewritten. Other types mean reading anew even where the server rewrites nothing,
  for the same bytes may read otherwise: -1 as `integer` is 4294967295 as `oid`, and `timestamptz` has a zone.
- A column that has a number which the table knew before, and was not in the log, was a generated one. It has
  values, which the log never told: reading anew.
- What rewrote the table (another type, a default that differs from row to row) may have changed every
  value in ways no log tells, an `ALTER … TYPE … USING` for example. A rewrite gives the table another file.
  So a column of another type, or one that is new without `attmissingval`, is only believed to be harmless
  while the table's files are still those of the snapshot; otherwise the table is read anew. VACUUM FULL,
  CLUSTER and TRUNCATE give another file too: then it is read anew without need, which is only slow.

All this is looked up now and not when the ALTER happened; anything that does not add up (renamed twice, a
name given to another column) is read anew as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pg_ingest.bookmark import LogBasedBookmark, LoggedColumn
from pg_ingest.decode.values import decode_column
from pg_ingest.postgres.missing import missing_values
from pg_ingest.postgres.session import Session
from pg_ingest.table import Column, Table


class ReadAnew(Exception):
    """The log does not say enough: the table needs a new snapshot. The message says why."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What the stored rows need to be of the piece's shape.

    Attributes:
        renamed: old and new names.
        added: columns that no stored row has, by their new names.
        retyped: columns whose declared type is another one of the same family.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    added: tuple[Column, ...] = ()
    retyped: tuple[Column, ...] = ()


def logged(
    columns: Sequence[Column], stored: Sequence[LoggedColumn] = ()
) -> tuple[LoggedColumn, ...]:
    """How a bookmark remembers columns; numbers that are not known any more are those it had before."""
    before = {column.name: column.attnum for column in stored}
    return tuple(
        LoggedColumn(c.name, c.attnum or before.get(c.name, 0), c.type.display) for c in columns
    )


def difference(stored: Sequence[LoggedColumn], columns: Sequence[Column]) -> Difference | None:
    """From the stored rows' columns to a piece's, None when they are the same; raises ReadAnew."""
    same = [(c.name, c.type) for c in stored] == [(c.name, c.type.display) for c in columns]
    if same and all(map(_one_number, stored, columns)):
        return None
    by_name = {column.name: column for column in stored}
    names = {column.name for column in columns}
    gone = {column.attnum: column.name for column in stored if column.name not in names}
    renamed: list[tuple[str, str]] = []
    added: list[Column] = []
    retyped: list[Column] = []
    for column in columns:
        before = by_name.get(column.name)
        if before is None and not column.attnum:
            raise ReadAnew(f"column {column.name} came and has been renamed or dropped since")
        if before is None and column.attnum in gone:
            before = by_name[gone[column.attnum]]
            renamed.append((before.name, column.name))
        if before is None:
            added.append(column)
        elif not _one_number(before, column):
            raise ReadAnew(f"the name {column.name} belongs to another column now")
        elif before.type != column.type.display:
            if _family(before.type) != _family(column.type.display):
                raise ReadAnew(f"{column.name} is {column.type.display} now, and was {before.type}")
            retyped.append(column)
    return Difference(tuple(renamed), tuple(added), tuple(retyped))


def _one_number(stored: LoggedColumn, column: Column) -> bool:
    """Whether the two may be the same column: a number that is not known any more is 0."""
    return 0 in (stored.attnum, column.attnum) or stored.attnum == column.attnum


def _family(display: str) -> str:
    """Types of one family print the same stored bytes alike."""
    plain = display if '"' in display else _MODIFIER.sub("", display)
    return "text" if plain == "character varying" else plain


_MODIFIER = re.compile(r"\([^)]*\)")


def highest_number(table: Table) -> int:
    """Of its columns; generated ones count."""
    return max((column.attnum for column in table.columns), default=0)


def refuse_unread(added: Sequence[Column], bookmark: LogBasedBookmark) -> None:
    """Raise ReadAnew when a column was there before, and was not in the log: generated, until it was not."""
    unread = [column.name for column in added if 0 < column.attnum <= bookmark.numbers]
    if unread:
        raise ReadAnew(f"{', '.join(unread)} had values before that the log did not bring")


def check_identity(
    key: Collection[str], columns: Sequence[Column], identity: Collection[str]
) -> None:
    """Raise ReadAnew unless the piece's old tuples carry what the stored rows are told apart by."""
    needed = key or [column.name for column in columns]
    lost = sorted(set(needed) - set(identity))
    if lost:
        raise ReadAnew(f"the replica identity has changed: {', '.join(lost)} no longer in it")


def fills(
    session: Session, relation_oid: int, change: Difference, bookmark: LogBasedBookmark, files: str
) -> pa.RecordBatch | None:
    """The value of each added column in the rows that were there: one row, None when all are NULL.

    Args:
        files: those of the table now, as `storage.digest` writes them.

    Raises ReadAnew when the table may have been rewritten.
    """
    refuse_unread(change.added, bookmark)
    missing = missing_values(session, relation_oid, [column.attnum for column in change.added])
    several = [column.name for column in change.added if len(missing.get(column.attnum, ())) > 1]
    if several:
        raise ReadAnew(
            f"{', '.join(several)} came with other values in some partitions than in others"
        )
    plain = [column.name for column in change.added if column.attnum not in missing]
    doubtful = [*plain, *(column.name for column in change.retyped)]
    if doubtful and files != bookmark.files:
        raise ReadAnew(f"{', '.join(doubtful)} changed, and the table has been rewritten")
    known = [column for column in change.added if column.attnum in missing]
    if not known:
        return None
    values = [
        decode_column(pa.array(missing[column.attnum], pa.string()), column).values
        for column in known
    ]
    return pa.RecordBatch.from_arrays(values, names=[column.name for column in known])
