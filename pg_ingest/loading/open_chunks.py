"""A load in chunks is opened: one that was begun goes on if it still fits, else it is planned.

Why chunks of several moments make one table is told in `methods/chunks.py`; how they are read in
`chunked_load.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pg_ingest.config.selection import Replication
from pg_ingest.destinations.chunks import BegunLoad, ChunkedLoad, KeepsChunks
from pg_ingest.destinations.destination import StreamId, Target
from pg_ingest.errors import BookmarkUnusable
from pg_ingest.methods.chunk_plan import planned
from pg_ingest.methods.chunks import Beginning, Plan, misfit
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.progress import Progress
from pg_ingest.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """What is to be loaded, and how the method begins.

    Attributes:
        beginning: asks the method, with the table as it is now.
        refused: why an unfinished load cannot go on, beyond what `methods.chunks.misfit` sees; "" if it can.
        between: called by the reading thread between two chunks, when it holds no session.
        reset: an unfinished load goes, unless this very run began it.
        only_resume: do not begin a load.
        begun: called when a load begins, before its first row is read.
        progress: an error it raises ends the load; what is stored stays.
    """

    server: Server
    destination: KeepsChunks
    replication: Replication
    database: str
    stream: StreamId
    target: Callable[[Table], Target]
    max_rejected: int
    run_id: str
    started_at: float
    beginning: Callable[[Session, Table], Beginning]
    refused: Callable[[Plan], str] = lambda _plan: ""
    between: Callable[[], None] = lambda: None
    reset: bool = False
    only_resume: bool = False
    begun: Callable[[], None] = lambda: None
    progress: Callable[[Progress], None] | None = None


@dataclass(slots=True)
class Chunks:
    """A load, all of whose chunks are stored once `read_in_chunks` has returned it.

    Attributes:
        load: as it was when this run began to read.
        rows, bytes: read by this run.
    """

    load: ChunkedLoad
    plan: Plan
    table: Table
    beginning: Beginning
    rows: int = 0
    bytes: int = 0


def opened(task: ChunkTask, notes: list[str]) -> Chunks | None:
    """The unfinished load, or a new one; None where there should be none."""
    load = task.destination.chunked_load(task.stream)
    with task.server.session(task.database) as session:
        table = describe(session, task.replication.table)
        beginning = task.beginning(session, table)
        if load is not None:
            plan, reason = _continued(task, load, session, table, beginning)
            if plan is not None:
                notes.append(f"{len(load.done)} of {load.chunks} chunks were stored before")
                return Chunks(load, plan, table, beginning)
            notes.append(f"an unfinished load was thrown away: {reason}")
        plan = None
        if not task.only_resume:
            plan = planned(session, task.replication, table, beginning, notes)
    if plan is None:
        return None
    begun = BegunLoad(task.replication.method, plan.dump(), plan.chunks, task.run_id)
    load = task.destination.begin_chunks(task.stream, task.target(table), beginning.schema, begun)
    task.begun()
    log.info("load begun: table=%s chunks=%d rows=%d", task.stream, plan.chunks, plan.rows)
    return Chunks(load, plan, table, beginning)


def _continued(
    task: ChunkTask, load: ChunkedLoad, session: Session, table: Table, beginning: Beginning
) -> tuple[Plan | None, str]:
    """The plan of an unfinished load, or None and why it is of no use."""
    if task.reset and not (task.run_id and load.run_id == task.run_id):
        return None, "it is begun anew on request"
    target = task.target(table)
    if (load.target.schema, load.target.table) != (target.schema, target.table):
        return None, f"it was for {load.target}"
    if load.method != task.replication.method:
        return None, f"the method was {load.method}"
    try:
        plan = Plan.load(load.plan)
    except BookmarkUnusable as error:
        return None, error.message
    reason = misfit(plan, session, table, beginning) or task.refused(plan)
    return (None, reason) if reason else (plan, "")
