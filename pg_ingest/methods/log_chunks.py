"""From the chunks of a log-based table to the log, exactly.

Read `methods/chunks.py` and `changelog/handover.py` first. Let `S_0` be the snapshot taken before the first
chunk and `S_i` that of the chunk in which a key `k` lies. After the last chunk all changes up to a position
`P` are captured, `P` lying above every commit that any chunk has seen. All of them that `S_0` does not see
are applied to the chunks. *Claim.* The result is the table as the log has it at `P`.

*A key that no such change names.* Its row, or that there is none, is the same in `S_0`, in `S_i` and at `P`.

*A key that one names.* The last change says whether there is a row, and all of its values but those stored
out of line that the update left alone. If such a value was written by an earlier change among those applied,
it is taken from there. If not, the row has had it, and its key, since before `S_0` until `P`; so `S_i` saw it
too, and it is in the stored row.

In between the stored row may be a later one than the change that is being applied, or be gone already (it was
deleted, or is another row with the same key). Then a value that is taken from it is wrong or missing, but
only for a while: the delete that explains it comes later in the same log and takes the row away with its
value. That is why such a gap is no error here (`batch.Changes.mixed`), and why nobody sees the table before
`P`.

*But not across a change of the key.* An update that gives a row another key and leaves a value out takes it
from the row with the old key. If the chunk of the old key was read after that, there is no such row, or it is
another one, and nothing comes later that would mend the new row. Such an update is recognised
(`refuse_moved`), and the table is read anew in one snapshot. With REPLICA IDENTITY FULL the old tuple brings
the value along, and there is nothing to refuse.

The bookmark of the result is that of `S_0`, with everything up to `P` applied. What commits later is applied
as for any other table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import polars as pl
import pyarrow as pa

from pg_ingest.batch import Changes, Reading
from pg_ingest.bookmark import LogBasedBookmark
from pg_ingest.changelog.fold import LSN, OP, SEQUENCE, UNCHANGED, WHOLE
from pg_ingest.changelog.handover import still_to_apply
from pg_ingest.config.selection import Replication
from pg_ingest.lsn import Lsn
from pg_ingest.methods.log_steps import Piece, Reread, steps
from pg_ingest.methods.shape import Difference, ReadAnew
from pg_ingest.postgres.reread import THERE


def catching_up(
    replication: Replication,
    bookmark: LogBasedBookmark,
    pieces: Iterable[Piece],
    upto: Lsn,
    reread: Reread | None = None,
) -> Iterator[Reading]:
    """What must be applied to the chunks, in steps, so that they are the table as of `upto`.

    `reread` as in `log_steps.steps`. Raises ReadAnew when only one snapshot can say what the rows are.
    """
    counted = _pieces(bookmark, pieces, upto)
    asked = None if reread is None else partial(_still_there, reread)
    for reading in steps(replication, bookmark, counted, _no_other_columns, reread=asked):
        assert isinstance(reading.scope, Changes)
        # rows that went before the load was whole have never been there: nothing to mark as deleted
        reading.scope = replace(reading.scope, soft=False, mixed=True)
        yield reading


def _still_there(
    reread: Reread, piece: Piece, keys: pl.DataFrame, columns: Sequence[str]
) -> pl.DataFrame:
    """A gap here is no error, so a row that is gone before its time would hide values that are missing."""
    found = reread(piece, keys, columns)
    if not found.get_column(THERE).all():
        raise ReadAnew(
            f"while it was read in chunks a row went whose {', '.join(columns)} are not told"
        )
    return found


def caught_up(bookmark: LogBasedBookmark, upto: Lsn) -> LogBasedBookmark:
    """The bookmark of the table as of `upto`."""
    return replace(bookmark, lsn=str(upto), sequence=-1)


def _pieces(bookmark: LogBasedBookmark, pieces: Iterable[Piece], upto: Lsn) -> Iterator[Piece]:
    for piece in pieces:
        rows = piece.rows.filter(pl.col(LSN) <= int(upto))
        refuse_moved(still_to_apply(rows, bookmark))
        yield replace(piece, rows=rows)


def refuse_moved(rows: pl.DataFrame) -> None:
    """Raise ReadAnew for a key that changed and left a value out."""
    moved = rows.select(
        (
            (pl.col(OP) == "u")
            & (pl.col(OP).shift(1) == "b")
            & (pl.col(LSN).shift(1) == pl.col(LSN))
            & (pl.col(SEQUENCE).shift(1) == pl.col(SEQUENCE) - 1)
            & pl.col(UNCHANGED).is_not_null()
            & ~pl.col(WHOLE).shift(1).fill_null(False)
        ).any()
    ).item()
    if moved:
        raise ReadAnew(
            "while it was read in chunks a row got another key, and the log does not say all its values"
        )


def _no_other_columns(
    piece: Piece, change: Difference, bookmark: LogBasedBookmark
) -> pa.RecordBatch | None:
    names = [new for _, new in change.renamed]
    names += [column.name for column in (*change.added, *change.retyped)]
    raise ReadAnew(f"columns changed while it was read in chunks: {', '.join(names)}")
