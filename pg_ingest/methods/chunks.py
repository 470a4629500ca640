"""The first load of a large table in chunks, each a transaction of its own at both ends.

One snapshot of a table that takes a day to read keeps the source from vacuuming for a day, and whoever dies
in the evening begins again in the morning. Chunks have neither fault, but they are of several moments. When
is the result right all the same?

**What chunks are.** Ranges of the key, or of some of its columns. A key lies in one range, whatever page its
row is on and whatever else is updated, and the ranges together hold every key there can be. So each key is
looked at exactly once, in one snapshot: no row twice, none left out for having moved. (Ranges of pages would
do both: an updated row moves to another page. They are for several connections under *one* snapshot,
`all_rows.py`.)

**What happened meanwhile.** Let `S_0` be what the method knows as its position, taken before the first chunk.
When the last chunk is stored, everything since `S_0` is brought in once more, over the whole of it, before
anybody can see the table. Which changes that finds is what the method promises:

- *key_based*, *xmin*, *delta_snapshot*: one ordinary incremental read from `S_0` on. A row that was written
  after `S_0` is read again and takes the place of the one with its key; one that was not is the same in every
  snapshot.
- *snapshot_diff*: whatever is not as it is stored, told by checksums; `methods/diff_chunks.py` argues.
- *log_based*: every change of every transaction that `S_0` does not see; `methods/log_chunks.py` argues.
- *full_table* and log-based tables without a key know no position from which to bring anything in. They keep
  one snapshot.

**What must stay as it is** while the chunks are read, perhaps over several days and processes: the columns,
the key, the settings, the server and its timeline, and the files of the table (TRUNCATE and rewriting changes
do not keep rows for older snapshots). The plan remembers them. (Where what is stored is compared with what is
there, *snapshot_diff*, only columns, key and settings matter.) All of it is looked at before
the first chunk of a process and after each chunk, before it is stored; when something is different, the load is
thrown away and begun anew. New partitions may come: rows that are written into them are found like all others,
and rows that came with one are recognised by the method itself.

A chunk counts only when its snapshot is safe on the server's disk, so that a crash of the server cannot take
back what we have stored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pg_ingest import bookmark as bookmarks
from pg_ingest.batch import Batch, Everything
from pg_ingest.bookmark import Bookmark, LoggedColumn
from pg_ingest.config.selection import Replication
from pg_ingest.errors import BookmarkUnusable
from pg_ingest.lsn import Lsn
from pg_ingest.methods.moment import at_one_moment
from pg_ingest.methods.rows import rows_at_once
from pg_ingest.methods.shape import logged
from pg_ingest.postgres.ranges import KeyRange, Values, ranges_between
from pg_ingest.postgres.row_versions import is_flushed, server_of
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.storage import files_of
from pg_ingest.table import Column, Table

FLUSH_SECONDS = 2.0
"""Longer than the server leaves a commit that nobody waits for unwritten: three times `wal_writer_delay`
(0.2 s). On an idle server the last page of the log may stay unwritten for good, but no commit is on it then."""

_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a method says of a table that it is about to load for the first time.

    Attributes:
        columns: to read.
        schema: of the rows stored, our own columns included.
        key: the columns that identify a row.
        unproven_key: those that only the configuration calls unique, () if the server does.
        dress: adds our own columns; gets the batches and the position of their snapshot.
        position: taken now, the bookmark from which later changes are found; None when there is none yet.
        settings: of the configuration, those that decide what is stored.
        whole: why all rows must be of one snapshot; "" where they need not.
        look: for a method that compares what is stored with what is there: what it notes of the rows of a
            range, in the snapshot that they are read in; also gets the plan's `start`.
    """

    columns: tuple[Column, ...]
    schema: pa.Schema
    key: tuple[str, ...]
    unproven_key: tuple[str, ...]
    dress: Callable[[Iterator[Batch], Lsn], Iterator[Batch]]
    position: Callable[[], Bookmark | None]
    settings: str
    notes: tuple[str, ...] = ()
    whole: str = ""
    look: Callable[[Session, Bookmark, KeyRange], str] | None = None

    @property
    def scope(self) -> Everything:
        return Everything(self.unproven_key)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a load is cut and from where it is caught up; outlives the process.

    Attributes:
        start: `S_0`, the bookmark before the first chunk.
        split, bounds: the columns that the ranges are of, and where one ends and the next begins.
        rows: expected.
        oid, server, settings, columns, key, files: what must stay as it is; no `files` and an empty `server`
            where these may change.
    """

    start: Bookmark
    split: tuple[str, ...]
    bounds: tuple[Values, ...]
    rows: int
    oid: int
    server: str
    settings: str
    columns: tuple[LoggedColumn, ...]
    key: tuple[str, ...]
    files: tuple[tuple[int, int | None], ...]

    @property
    def chunks(self) -> int:
        return len(dict.fromkeys(self.bounds)) + 1

    def ranges(self, table: Table) -> tuple[KeyRange, ...]:
        """The chunks, in order of their numbers."""
        return ranges_between([table.column(name) for name in self.split], self.bounds)

    def dump(self) -> str:
        """JSON text."""
        return json.dumps({**asdict(self), "start": bookmarks.dump(self.start)})

    @classmethod
    def load(cls, text: str) -> Plan:
        """What `dump` wrote; raise BookmarkUnusable for anything else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            fields["start"] = bookmarks.load(fields["start"])
            fields["split"] = tuple(fields["split"])
            fields["bounds"] = tuple(tuple(values) for values in fields["bounds"])
            fields["columns"] = tuple(LoggedColumn(**column) for column in fields["columns"])
            fields["key"] = tuple(fields["key"])
            fields["files"] = tuple((oid, file) for oid, file in fields["files"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            raise BookmarkUnusable(
                "the plan of an unfinished load cannot be read",
                detail=type(error).__name__,
                hint="`pg-ingest reset TABLE` begins the load anew",
            ) from None


def misfit(plan: Plan, session: Session, table: Table, beginning: Beginning) -> str:
    """Why the chunks of this plan are not chunks of the table as it is now; empty when they are."""
    now = files_of(session, table)
    server = plan.server if beginning.look is not None else server_of(session)
    reasons = {
        beginning.whole: bool(beginning.whole),
        "the settings of the table are others": plan.settings != beginning.settings,
        "the table was dropped and made anew": plan.oid != table.oid,
        "its columns or their types are others": plan.columns != logged(beginning.columns),
        "its rows are identified by other columns": plan.key != beginning.key,
        "this is another server, or it was restored or promoted": plan.server != server,
        "it, or a partition, was truncated, rewritten or taken away": any(
            oid not in now or now[oid] != file for oid, file in plan.files
        ),
    }
    return next((reason for reason, so in reasons.items() if so), "")


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """The rows of one chunk, read lazily, once, and what the method notes of them."""

    batches: Iterator[Batch]
    lsn: Lsn
    notes: tuple[str, ...] = ()


@contextmanager
def chunk(
    session: Session,
    replication: Replication,
    table: Table,
    beginning: Beginning,
    plan: Plan,
    bounds: KeyRange,
) -> Iterator[ChunkRows]:
    """One range, in a snapshot that ends with the block; raises as `rows_at_once`."""
    query = select_rows(table, beginning.columns, where=replication.where, bounds=[bounds])
    if beginning.look is not None:
        with at_one_moment(session, table) as moment:
            note = beginning.look(session, plan.start, bounds)
            read, lsn = moment.checked(moment.rows(query)), moment.snapshot.lsn
            yield ChunkRows(beginning.dress(read, lsn), lsn, (note,))
        return
    with rows_at_once(session, table, query) as rows:
        lsn = rows.snapshot.lsn
        yield ChunkRows(beginning.dress(rows.batches, lsn), lsn)


def wait_until_flushed(session: Session, lsn: Lsn) -> None:
    """Until a crash of the server takes no commit back that a snapshot at `lsn` has seen."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while not is_flushed(session, lsn) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
