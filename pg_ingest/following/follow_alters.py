"""Tables that were altered while no row of them changed: asked once for all of them when the log is captured.

`methods/altered.py` says what is looked for, and why it is right.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from pg_ingest.bookmark import Bookmark, LogBasedBookmark
from pg_ingest.config.selection import Replication
from pg_ingest.following.ask_source import SourceLine
from pg_ingest.following.capture_log import LogCapture
from pg_ingest.following.load_log import TableLoad
from pg_ingest.methods.altered import noticed, reshaped, to_follow
from pg_ingest.methods.log_steps import logged_of
from pg_ingest.methods.shape import Difference, ReadAnew, fills
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.storage import digest, files_of
from pg_ingest.postgres.table_marks import marks_of
from pg_ingest.postgres.value_texts import (
    OTHERWISE,
    read_otherwise,
    tells_by_name,
    value_texts,
)


def notice_alters(
    line: SourceLine, capture: LogCapture, replication: Replication, bookmark: LogBasedBookmark
) -> LogBasedBookmark:
    """The bookmark to apply the log from; raises ReadAnew where only a new snapshot is right."""
    table, marks = capture.tables[replication.table], capture.marks.get(replication.table)
    if tells_by_name(table.columns):
        texts = value_texts(line.session, table.columns)
        if read_otherwise(bookmark.texts, texts):
            raise ReadAnew(OTHERWISE)
        bookmark = replace(bookmark, texts=texts)
    if marks is None:
        return bookmark
    return noticed(bookmark, table, logged_of(replication, table), marks)


def follow_alters(
    line: SourceLine,
    capture: LogCapture,
    load: TableLoad,
    bookmark: LogBasedBookmark,
    before: Bookmark | None,
) -> None:
    """Give the stored rows the table's shape after the log was applied up to `bookmark`.

    `before` is what the destination has now. Where the table is being altered just now nothing is done; the
    next sync does it. Raises ReadAnew.
    """
    replication = load.replication
    table, marks = capture.tables[replication.table], capture.marks.get(replication.table)
    columns = logged_of(replication, table)
    if marks is None or to_follow(bookmark, columns) is None:
        return
    session = line.session
    now = describe(session, table.id)
    if now.oid != table.oid or marks_of(session, [now.oid]).get(now.oid) != marks:
        return
    files = digest(files_of(session, now))

    def look(change: Difference) -> pa.RecordBatch | None:
        return fills(session, now.oid, change, bookmark, files)

    reading = reshaped(replication, bookmark, now, columns, marks, look)
    if reading is not None:
        load.store(reading, expected=before)
