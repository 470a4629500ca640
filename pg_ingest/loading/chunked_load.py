"""The chunks of a large table's first load: planned once, read by several connections, stored one by one.

Why chunks of several moments make one table is told in `methods/chunks.py`; here is the work. A chunk is read
in a session of its own, which is over before the chunk is stored, so nothing at the source is held longer than
a chunk takes. What is stored is never read again, whoever is killed: the next run finds the plan and what is
left of it.

A server that does not let a chunk be read to its end (a standby that cancels what is in the way of its
replay, a statement timeout) gets smaller statements: the chunk is read again in parts of its range, each in a
snapshot of its own, which is as right as chunks of several moments are.

The calling thread reads like the others, and only it reports progress and does what has to be done in between
(`between`). Further connections are used as far as there are places for them (`limits.connections`); none is
waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from pg_ingest.batch import Batch
from pg_ingest.destinations.chunks import ReceivedChunk
from pg_ingest.errors import PassingFault, SourceBusy, StatementCancelled
from pg_ingest.loading.open_chunks import Chunks, ChunkTask, opened
from pg_ingest.lsn import Lsn
from pg_ingest.methods.chunks import chunk, misfit, wait_until_flushed
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.ranges import KeyRange, parts_of
from pg_ingest.postgres.session import Session
from pg_ingest.progress import PROGRESS_SECONDS, Progress

log = logging.getLogger(__name__)

_ATTEMPTS = 3
"""Loads begun in one run when the table does not stay as it is."""

_PARTS = (1, 4, 16, 64)
"""Into how many parts a chunk is cut, when reading it in fewer was cancelled; the chunks after it as well."""


class _Stopped(Exception):
    """Another thread has failed, or the load was interrupted."""


class _Cancelled(Exception):
    """The server did not let a chunk be read to its end, and said why in `fault`."""

    def __init__(self, fault: SourceBusy) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Broken(Exception):
    """The table is not what the plan was made for. The message says why."""


def read_in_chunks(task: ChunkTask, notes: list[str]) -> Chunks | None:
    """Store all chunks that are missing; None when the table is better read in one pass.

    `notes` takes what people should know. An unfinished load that is of no use is left where it is: the next
    commit of the stream ends it.

    Raises what the source and the destination raise; what is stored by then is not read again. SourceBusy when
    the table changes again and again while it is read.
    """
    for _ in range(_ATTEMPTS):
        chunks = opened(task, notes)
        if chunks is None:
            return None
        readers = _Readers(task, chunks)
        try:
            readers.run()
        except _Broken as reason:
            task.destination.drop_chunks(task.stream)
            notes.append(f"begun anew while it was read in chunks: {reason}")
            continue
        if readers.parts > 1:
            notes.append(
                f"chunks were read in {readers.parts} parts: the server cancelled larger ones"
            )
        return chunks
    raise SourceBusy(
        f"{task.stream}: the table does not stay as it is while it is read in chunks",
        detail="; ".join(notes),
        hint="it is tried again",
    )


class _Readers:
    """The threads of one load; `parts`: into how many a chunk had to be cut so far."""

    def __init__(self, task: ChunkTask, chunks: Chunks) -> None:
        self._task = task
        self._chunks = chunks
        self._ranges = chunks.plan.ranges(chunks.table)
        self._left = deque(n for n in range(len(self._ranges)) if n not in chunks.load.done)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.parts = _PARTS[0]
        self._fault: BaseException | None = None
        self._due = 0.0

    def run(self) -> None:
        """Until no chunk is left; the first error of any thread is raised when all have stopped."""
        limits = self._task.server.config.limits
        count = min(limits.load_threads, limits.connections, len(self._left)) - 1
        others = [
            threading.Thread(target=self._help, name="chunked_load", daemon=True)
            for _ in range(count)
        ]
        try:
            for thread in others:
                thread.start()
            self._work()
            for thread in others:
                while thread.is_alive():
                    thread.join(PROGRESS_SECONDS)
                    self._report()
            self._work()
        except _Stopped:
            pass
        finally:
            self._stopped.set()
            for thread in others:
                if thread.ident is not None:
                    thread.join()
        if self._fault is not None:
            raise self._fault

    def _work(self) -> None:
        database = self._task.database
        while (number := self._next()) is not None:
            self._one(number, lambda: self._task.server.session(database), self._report)
            self._task.between()

    def _help(self) -> None:
        database = self._task.database
        try:
            while (number := self._next()) is not None:
                place = partial(self._task.server.spare_session, database)
                if not self._one(number, place, lambda: None):
                    return
        except BaseException as error:
            if self._fault is None and not isinstance(error, _Stopped):
                self._fault = error
            self._stopped.set()

    def _next(self) -> int | None:
        try:
            return None if self._stopped.is_set() else self._left.popleft()
        except IndexError:
            return None

    def _one(
        self,
        number: int,
        place: Callable[[], AbstractContextManager[Session | None]],
        report: Callable[[], None],
    ) -> bool:
        """Read a chunk, then store it; False when there is no place for a session."""
        for parts in _PARTS[_PARTS.index(self.parts) :]:
            try:
                done = self._in_parts(number, place(), report, parts)
            except (_Cancelled, StatementCancelled) as cancelled:
                fault = cancelled.fault if isinstance(cancelled, _Cancelled) else cancelled
                if parts == _PARTS[-1]:
                    raise fault from None
                log.warning(
                    "reading a chunk was cancelled, trying smaller statements: table=%s chunk=%d %s",
                    *(self._task.stream, number + 1, fault.message),
                )
            else:
                self.parts = max(self.parts, parts)
                return done
        raise AssertionError("the last part count returns or raises")

    def _in_parts(
        self,
        number: int,
        place: AbstractContextManager[Session | None],
        report: Callable[[], None],
        parts: int,
    ) -> bool:
        task, chunks = self._task, self._chunks
        with ExitStack() as held:
            with place as session:
                if session is None:
                    self._left.appendleft(number)
                    return False
                bounds = self._ranges[number]
                noted: list[str] = []
                received = self._received(session, bounds, parts, held, report, noted)
            kept = task.destination.keep_chunk(
                chunks.load, number, received, max_rejected=task.max_rejected, notes=noted
            )
        log.info(
            "chunk %s: table=%s chunk=%d of=%d rows=%d",
            *("stored" if kept else "was stored already", task.stream, number + 1),
            *(len(self._ranges), received.rows),
        )
        return True

    def _received(
        self,
        session: Session,
        bounds: KeyRange,
        parts: int,
        held: ExitStack,
        report: Callable[[], None],
        noted: list[str],
    ) -> ReceivedChunk:
        task, begin = self._task, self._chunks.beginning
        table = self._chunks.table
        seen: list[Lsn] = []
        batches = self._batches(session, bounds, parts, seen, noted)
        received = held.enter_context(
            task.destination.receive_chunk(
                self._chunks.load.target,
                begin.schema,
                self._counted(batches, report),
                max_rejected=task.max_rejected,
            )
        )
        wait_until_flushed(session, seen[-1])
        now = describe(session, table.id)
        reason = misfit(self._chunks.plan, session, now, task.beginning(session, now))
        if reason:
            raise _Broken(reason)
        return received

    def _batches(
        self, session: Session, bounds: KeyRange, parts: int, seen: list[Lsn], noted: list[str]
    ) -> Iterator[Batch]:
        """The rows of the chunk, part by part.

        `seen` takes the positions of their snapshots, `noted` what the method notes of them.
        """
        task, begin, table = self._task, self._chunks.beginning, self._chunks.table
        plan = self._chunks.plan
        try:
            for part in parts_of(session, table, bounds, parts):
                with chunk(session, task.replication, table, begin, plan, part) as rows:
                    seen.append(rows.lsn)
                    noted.extend(rows.notes)
                    yield from rows.batches
        except SourceBusy as fault:
            raise _Cancelled(fault) from fault

    def _counted(self, batches: Iterator[Batch], report: Callable[[], None]) -> Iterator[Batch]:
        """The same batches, counted unless not all of them come."""
        counted, size = 0, 0
        try:
            for batch in batches:
                if self._stopped.is_set():
                    raise _Stopped
                rejected = 0 if batch.rejected is None else batch.rejected.num_rows
                counted += batch.rows.num_rows + rejected
                size += batch.size
                self._add(batch.rows.num_rows + rejected, batch.size)
                report()
                yield batch
        except (_Cancelled, PassingFault):
            self._add(-counted, -size)
            raise

    def _add(self, rows: int, size: int) -> None:
        with self._lock:
            self._chunks.rows += rows
            self._chunks.bytes += size

    def _report(self) -> None:
        """By the calling thread only: who listens may belong to it."""
        seconds = time.time() - self._task.started_at
        if self._fault is None and self._task.progress is not None and seconds >= self._due:
            self._due = seconds + PROGRESS_SECONDS
            chunks = self._chunks
            self._task.progress(
                Progress(
                    *(chunks.rows, chunks.bytes, seconds),
                    expected=chunks.plan.rows,
                    earlier=chunks.load.rows,
                )
            )
