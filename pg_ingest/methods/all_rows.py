"""All rows of a table at one moment, read by several connections where there are many.

One statement reads a table with one process of the server and one of ours. A large table is therefore cut into
ranges of pages, and each connection takes the next range as soon as it has finished one. All of them see *one*
snapshot: the first connection exports its own, the others take it over before their first statement. Under one
snapshot each row has one place, so the ranges hold each row exactly once, and the result is what one
statement would have read.

What keeps the places still: a statement locks the table until its transaction ends, and under that lock no
VACUUM FULL, CLUSTER or TRUNCATE can move a row. Every connection's transaction stays open until all have read
their last row. What happens to the files before the first statement is seen by comparing them afterwards
(`rows.of_these_files`).

Such a read cannot be taken up again: another snapshot would be another moment. Where a later catch-up makes up
for several moments, see `methods/chunks.py`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pg_ingest.batch import Batch
from pg_ingest.config.selection import Replication
from pg_ingest.decode.copy_csv import read_copy_csv
from pg_ingest.methods.rows import Rows, block_of, of_these_files, rows_at_once
from pg_ingest.postgres.ranges import page_ranges
from pg_ingest.postgres.select import Condition, SelectQuery, select_rows
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.storage import files_of
from pg_ingest.table import Column, Table

log = logging.getLogger(__name__)

LARGE = 2
"""A table is large from this many chunks on (`limits.chunk_rows`)."""

_RANGES_PER_CONNECTION = 8
"""Small enough that all connections end at about the same time, large enough to cost nothing."""

_SELECTIVE = 5
"""A row filter that leaves less than one row in so many may use an index, which ranges of pages would not."""

_ALOFT = 2
"""Batches read ahead per connection: about 4 MB of text each."""


@contextmanager
def all_rows(
    session: Session,
    replication: Replication,
    table: Table,
    columns: Sequence[Column],
    bounds: Sequence[Condition] = (),
) -> Iterator[Rows]:
    """The rows of the table that pass the row filter and all bounds; as `rows_at_once`.

    Raises QueryRefused, PermissionMissing, SourceTableChanged before the first row.
    """
    queries = _divided(session, table, columns, replication.where, bounds)
    with ExitStack() as stack:
        others = _others(session, table, queries, stack)
        if others:
            yield stack.enter_context(_in_parallel(session, others, table, queries))
            return
        query = select_rows(table, columns, where=replication.where, bounds=bounds)
        yield stack.enter_context(rows_at_once(session, table, query))


def all_rows_now(
    session: Session, table: Table, columns: Sequence[Column], where: str | None
) -> Generator[Batch, None, None]:
    """The same rows in the snapshot that the session is in; whoever took it compares the table's files."""
    queries = _divided(session, table, columns, where)
    with ExitStack() as stack:
        others = _others(session, table, queries, stack)
        if not others:
            query = select_rows(table, columns, where=where)
            stream = stack.enter_context(session.copy(query))
            yield from read_copy_csv(stream, query.columns)
            return
        _join(session, others, stack)
        crew = stack.enter_context(_crew([session, *others], queries, block_of(session, table)))
        yield from crew.batches()


def _divided(
    session: Session,
    table: Table,
    columns: Sequence[Column],
    where: str | None,
    bounds: Sequence[Condition] = (),
) -> list[SelectQuery]:
    """One query for each range of pages, none where it does not pay to divide."""
    estimate = session.explain(select_rows(table, columns, where=where, bounds=bounds))
    threads = _threads(session)
    large = estimate.rows >= LARGE * session.limits.chunk_rows
    selective = estimate.rows * _SELECTIVE < table.estimated_rows
    if not large or threads < 2 or bounds or selective:
        return []
    ranges = page_ranges(session, table, threads * _RANGES_PER_CONNECTION)
    return [select_rows(table, columns, where=where, bounds=[each]) for each in ranges]


def _threads(session: Session) -> int:
    return min(session.limits.load_threads, session.limits.connections)


def _others(
    session: Session, table: Table, queries: Sequence[SelectQuery], stack: ExitStack
) -> list[Session]:
    """Further sessions to share the queries with, which `stack` keeps open."""
    others: list[Session] = []
    for _ in range(_threads(session) - 1 if len(queries) > 1 else 0):
        other = stack.enter_context(session.spare())
        if other is None:
            break
        others.append(other)
    if others:
        log.info(
            "reading in parallel: table=%s connections=%d ranges=%d",
            *(table.id, 1 + len(others), len(queries)),
        )
    return others


def _join(first: Session, others: Sequence[Session], stack: ExitStack) -> None:
    """The other sessions see the snapshot that the first one is in."""
    name = first.export_snapshot()
    for other in others:
        stack.enter_context(other.snapshot(exported=name))


@contextmanager
def _in_parallel(
    first: Session, others: Sequence[Session], table: Table, queries: Sequence[SelectQuery]
) -> Iterator[Rows]:
    files = files_of(first, table)
    with ExitStack() as stack:
        snapshot = stack.enter_context(first.snapshot())
        _join(first, others, stack)
        crew = stack.enter_context(_crew([first, *others], queries, block_of(first, table)))
        yield Rows(snapshot, of_these_files(first, table, files, crew.batches()), files)


@contextmanager
def _crew(
    sessions: Sequence[Session], queries: Sequence[SelectQuery], block: int
) -> Iterator[_Crew]:
    crew = _Crew(sessions, queries, block)
    try:
        yield crew
    finally:
        crew.stop()


class _Crew:
    """Threads, each with a session of its own, that take query after query; their batches come out here."""

    def __init__(
        self, sessions: Sequence[Session], queries: Sequence[SelectQuery], block: int
    ) -> None:
        self._block = block
        self._left = deque(queries)
        self._ready: queue.Queue[Batch | BaseException | None] = queue.Queue(_ALOFT * len(sessions))
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=[session], name="all_rows", daemon=True)
            for session in sessions
        ]

    def batches(self) -> Iterator[Batch]:
        """All batches, in no order; the first error of any thread is raised."""
        for thread in self._threads:
            thread.start()
        working = len(self._threads)
        while working:
            ready = self._ready.get()
            if isinstance(ready, BaseException):
                raise ready
            if ready is None:
                working -= 1
            else:
                yield ready
        self.stop()

    def stop(self) -> None:
        """Let the threads cancel what they do, and wait until none uses its session any more."""
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self, session: Session) -> None:
        try:
            while self._left and not self._stopped.is_set():
                try:
                    query = self._left.popleft()
                except IndexError:
                    break
                self._read(session, query)
            self._hand_over(None)
        except BaseException as error:
            self._hand_over(error)

    def _read(self, session: Session, query: SelectQuery) -> None:
        with session.copy(query) as stream:
            for batch in read_copy_csv(stream, query.columns, self._block):
                if not self._hand_over(batch):
                    return

    def _hand_over(self, result: Batch | BaseException | None) -> bool:
        """Wait for room; False when nobody wants it any more."""
        while not self._stopped.is_set():
            try:
                self._ready.put(result, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False


_PATIENCE = 0.1
"""Seconds between two looks whether anybody still wants the rows."""
