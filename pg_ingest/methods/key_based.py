"""Key-based: the rows whose replication key is not below a stored position, and no late one is missed.

**The trap.** A transaction takes its key (a sequence value, `now()`) when it inserts or updates, but its row
can be seen only when it commits. Keys are handed out in ascending order; commits come in any order. Whoever
reads `key > greatest key seen` loses the rows that commit late with a key below it::

    writer A                writer B                pg_ingest
    begin, takes key 7
                            takes key 8, commits
                                                    sees 8, remembers "read up to 8"
    commits 7
                                                    reads key > 8: row 7 is lost for ever

**The rule.** Each sync, in this order:

1. look at the greatest key, `key_a` (a snapshot of its own, over by the next step);
2. list the transactions that run now: `L`;
3. take the snapshot `S` and read the rows with `key >= position` in it.

*Claim.* A row that `S` does not see and that has a key below `key_a`, or will ever have one, is written by a
transaction in `L`. *Proof.* Its key was handed out before `key_a` was, since later keys are not smaller, and
`key_a` was handed out before step 1 saw it. At that moment the row's transaction was running. At step 2 it was
either still running, and is in `L`; or it had ended, and if it committed, then `S`, taken later, sees its row
(a transaction gives up the lock that puts it in `L` only after its changes can be seen: `CommitTransaction`
in src/backend/access/transam/xact.c).

So `(key_a, L)` is a *pending* position. It becomes *the* position with a sync `m` before whose snapshot
`S_m` all of `L` have ended: then every row below `key_a` that will ever be committed is seen by `S_m`, and `m`
itself still reads from the *old* position, so it reads all of them. The new position is stored in the same
destination transaction as the rows. Often `L` is empty or ends within a blink; then `m` is the sync that made
the list. The interleaving above becomes::

    sync 1: key_a = 8, L = {A}; reads up to 8; stores: position none, pending (8, {A})
    A commits 7
    sync 2: A has ended, so this sync's snapshot sees 7; reads from the old position, gets 7;
            stores: position 8

A transaction that never ends holds the position; rows above it are read again and again, none is lost.

**Details that matter.**

- `>=`, not `>`: equal keys can be handed out later (dates, two rows of one `now()`). Rows that are read again
  and equal in every column are recognised by the destination and not counted.
- A transaction that is PREPAREd leaves `L` without having ended. While one is prepared in this database no
  position is confirmed; it is looked for *after* `L` (see `postgres/transactions.py`).
- A standby does not list the primary's transactions. There a position waits until `xmin` of the snapshot
  has reached the `xmax` of the time it was seen. That covers the transactions that had ended or written by
  then in the order of their ids, not one that began early and wrote its first row later: the reading says so.
- A server that crashes takes commits back that were not on disk (`synchronous_commit = off`), and gives their
  keys out again. So a key is a candidate only once its log is on disk; then the sequence is beyond it for good.
- Clock readings get `CLOCK_SLACK`: `now()` is read microseconds before the transaction can be seen.
- Infinite keys, NaN and times in the future never become a position (they would freeze it); they are read every
  time, as are rows without a key (NULL).
- Pending positions are independent of each other: dropping one only costs time. So the list is bounded.
- Ended means ended for ever: virtual ids are not used again while the server runs, and after a restart
  everything that ran has ended; an old id met again by chance can only hold a position back.

**Where the proof does not hold.** In a materialized view a late row appears with a refresh, in a foreign table
when another server says so: perhaps long after all of `L` have ended. There, and in views of them, no position
is ever stored and all rows are read every time. A plain view is followed; its key must be that of the change
which makes a row appear or change, not, say, of one side of a join.

**What it cannot see.** Deletes. Updates that leave the key as it was. Rows that get a key which was not handed
out by a running transaction of this server in ascending order: imported history, keys made up by clients
whose clocks differ by more than the slack, a sequence with CACHE > 1 (refused), rows that logical replication
brings in from elsewhere. A server that was promoted or restored may have lost what was read, and gives its keys
out again: there all rows are read again, none is deleted. The same goes for another column than last time, and
for an ALTER TABLE that computes values anew. Another filter: all rows are read and replace the stored ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pg_ingest.batch import Batch, Everything, Keys, Reading
from pg_ingest.bookmark import KeyBasedBookmark, Partition
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.errors import ConfigError
from pg_ingest.methods.all_rows import all_rows
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.key_plan import Plan, continued, planned, reads_more
from pg_ingest.methods.moment import at_one_moment
from pg_ingest.methods.pieces import Pieces, by_key, columns_to_cut_by
from pg_ingest.methods.position import Sighting, Watch, settled, sighted, watched
from pg_ingest.methods.request import Request
from pg_ingest.methods.rows import rows_at_once
from pg_ingest.postgres.keys import from_key_on
from pg_ingest.postgres.partitions import partitions_of
from pg_ingest.postgres.select import Condition
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.table import Table


@dataclass(frozen=True, slots=True)
class _Asked:
    """All that is known before the snapshot.

    Attributes:
        old: the bookmark to go on from, None to begin anew.
        again: rows below its position are read as well.
        start: the position from which on rows are read, None for all.
    """

    plan: Plan
    old: KeyBasedBookmark | None
    again: bool
    start: str | None
    partitions: tuple[Partition, ...]
    sighting: Sighting
    watch: Watch
    notes: tuple[str, ...]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What a row must meet to be read."""
        return () if self.start is None else (from_key_on(self.plan.followed, self.start),)

    def reading(self, snapshot: Snapshot, batches: Iterator[Batch]) -> Reading:
        """What is read in that snapshot, or not before it."""
        plan, old = self.plan, self.old
        settlement = settled(old or plan.begin(), self.sighting, self.watch, snapshot)
        new = replace(
            plan.begin(),
            position=settlement.position,
            pending=settlement.pending,
            partitions=self.partitions,
        )
        return Reading(
            schema=arrow_schema(plan.columns),
            batches=batches,
            scope=Everything(plan.unproven_key) if old is None else Keys(plan.key),
            bookmark=new,
            phase="snapshot" if old is None or self.again else "incremental",
            position_from=self.start or "",
            position_to=new.position or "",
            notes=[*self.notes, *settlement.notes],
        )


@contextmanager
def read(request: Request) -> Iterator[Reading]:
    """The rows from the bookmark's position on; all rows without a bookmark or with `reset`.

    Raises BookmarkUnusable, MethodUnavailable, ConfigError for a window, SourceTableChanged,
    PermissionMissing, QueryRefused.
    """
    session, replication, table = request.subject
    asked = _asked(request)
    plan, known = asked.plan, asked.conditions
    reading = (
        rows_at_once(session, table, plan.query(*known))
        if known
        else all_rows(session, replication, table, plan.columns)
    )
    with reading as rows:
        yield asked.reading(rows.snapshot, rows.batches)


@contextmanager
def read_in_pieces(request: Request) -> Iterator[Reading]:
    """The same rows in pieces, see `pieces.py`; raises NotInPieces as well."""
    session, table = request.session, request.table
    asked = _asked(request)
    plan = asked.plan
    split = columns_to_cut_by(session, table, plan.key)
    with at_one_moment(session, table) as first:
        reading = asked.reading(first.snapshot, iter(()))
    known = asked.conditions
    cutting = by_key(session, table, split, among=known)
    pieces = Pieces(request, first, cutting)
    reading.batches = pieces.all_of(
        reading, lambda moment, bounds: moment.rows(plan.query(bounds, *known))
    )
    yield reading


def _asked(request: Request) -> _Asked:
    session, replication, table = request.subject
    if request.window is not None:
        raise ConfigError(
            f"{table.id} is read by its key, not in windows",
            hint="take `method: full_table` for a table with `partition_by`",
        )
    plan = planned(session, replication, table)
    session.explain(plan.query())
    notes: list[str] = []
    old = continued(request.since, plan, notes)
    since = old or plan.begin()
    partitions = partitions_of(session, table)
    again = old is not None and reads_more(session, old, plan, partitions, notes)
    sighting = sighted(session, table, plan.followed, plan.where, since)
    watch = watched(session, since, sighting)
    start = None if again or sighting.detached else since.position
    return _Asked(plan, old, again, start, partitions, sighting, watch, tuple(notes))


def beginning(session: Session, replication: Replication, table: Table) -> Beginning:
    """What the first load of the table reads in chunks; raises as `read` does.

    The position of a load in chunks must hold for the snapshot of each of them. So all who ran when the
    greatest key was seen must have ended before the first; where they have not after `limits.lock_timeout`
    there is no position, and the table is read in one pass.
    """
    plan = planned(session, replication, table)
    schema = arrow_schema(plan.columns)
    return Beginning(
        columns=plan.columns,
        schema=schema,
        key=plan.key,
        unproven_key=plan.unproven_key,
        dress=lambda batches, _lsn: batches,
        position=lambda: _first_position(session, plan),
        settings=repr((plan.followed.name, plan.followed.type.display, plan.where)),
    )


def _first_position(session: Session, plan: Plan) -> KeyBasedBookmark | None:
    since = plan.begin()
    partitions = partitions_of(session, plan.table)
    sighting = sighted(session, plan.table, plan.followed, plan.where, since)
    deadline = time.monotonic() + session.limits.lock_timeout
    while sighting.pending:
        watch = watched(session, since, sighting)
        with session.snapshot() as snapshot:
            settlement = settled(since, sighting, watch, snapshot)
        if settlement.position is not None:
            return replace(since, position=settlement.position, partitions=partitions)
        if time.monotonic() >= deadline:
            break
    return None
