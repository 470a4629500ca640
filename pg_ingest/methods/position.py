"""How far a key-based table has safely been read: the bookkeeping behind `key_based.py`, which says why."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pg_ingest.bookmark import KeyBasedBookmark, PendingKey
from pg_ingest.errors import BookmarkUnusable
from pg_ingest.methods.replication_key import refuse_random
from pg_ingest.postgres.flushed import survives
from pg_ingest.postgres.keys import greatest_key, ranks
from pg_ingest.postgres.origins import detached_origins
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Snapshot
from pg_ingest.postgres.transactions import (
    prepared_transactions,
    running_transactions,
    still_running,
)
from pg_ingest.table import Column, Table

MAX_PENDING = 32
"""Pending positions kept. When there are more, the newest takes the last place: the old ones are the first
that can be confirmed, and one that is dropped only leaves the position lower than it could be."""

PATIENCE = 0.1
"""Seconds to wait for the transactions that run just now: most end at once, and then the position need not
wait for the next sync."""

FLUSH_PATIENCE = 2.0
"""Seconds to wait until a crash of the server cannot take the greatest key back (usually 0.6 at most)."""

_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of the key before the reading.

    Attributes:
        pending: candidates for the position, ascending, all above the old position and not above the
            greatest key; the last one may be new.
        standby: the server was one.
        detached: see `postgres/origins.py`; where there are any, there is no candidate.
        unwritten: the greatest key is no candidate, because a crash could give it out again.
    """

    pending: tuple[PendingKey, ...]
    standby: bool
    detached: tuple[str, ...] = ()
    unwritten: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """What still stood in the way just before the snapshot: virtual ids with their process ids."""

    running: Mapping[str, int]
    prepared: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """Position and pending positions to store with the rows."""

    position: str | None
    pending: tuple[PendingKey, ...]
    notes: list[str]


def sighted(
    session: Session, table: Table, column: Column, where: str | None, since: KeyBasedBookmark
) -> Sighting:
    """Look at the greatest key, then list what runs: steps 1 and 2.

    Raises BookmarkUnusable when the greatest key lies below the position.
    """
    detached = detached_origins(session, table)
    if detached:
        return Sighting((), session.is_standby, detached)
    with session.snapshot() as before:
        greatest = greatest_key(session, table, column, where)
    if greatest is None:
        return Sighting((), session.is_standby)
    refuse_random(table, column, greatest.value)
    running = () if session.is_standby else tuple(running_transactions(session))
    seen = PendingKey(greatest.safe, running, before.xmax, session.is_standby)
    values = {greatest.value, seen.value, *(one.value for one in since.pending)}
    if since.position is not None:
        values.add(since.position)
    rank = ranks(session, table, column, values)
    if since.position is not None and rank[greatest.value] < rank[since.position]:
        raise _went_backwards(table, column)
    written = survives(session, before.lsn, FLUSH_PATIENCE)
    found = (*since.pending, seen) if written else since.pending
    candidates = _candidates(since, found, greatest.value, rank)
    return Sighting(candidates, session.is_standby, unwritten=not written)


def _candidates(
    since: KeyBasedBookmark, found: Sequence[PendingKey], greatest: str, rank: Mapping[str, int]
) -> tuple[PendingKey, ...]:
    floor = 0 if since.position is None else rank[since.position]
    kept: list[PendingKey] = []
    for one in found:
        if floor < rank[one.value] <= rank[greatest]:
            kept.append(one)
            floor = rank[one.value]
    return (*kept[: MAX_PENDING - 1], kept[-1]) if len(kept) > MAX_PENDING else tuple(kept)


def watched(session: Session, since: KeyBasedBookmark, sighting: Sighting) -> Watch:
    """Which of the listed transactions have not ended, after a short wait; prepared ones after that."""
    listed = {name for one in sighting.pending for name in one.transactions}
    fresh = [one for one in sighting.pending if one not in since.pending]
    awaited = {name for one in fresh for name in one.transactions}
    deadline = time.monotonic() + PATIENCE
    running = still_running(session, listed)
    while awaited & running.keys() and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        running = still_running(session, listed)
    return Watch(running, prepared_transactions(session) if sighting.pending else 0)


def settled(
    since: KeyBasedBookmark, sighting: Sighting, watch: Watch, snapshot: Snapshot
) -> Settlement:
    """The greatest pending position whose transactions have all ended before `snapshot`."""
    if sighting.detached:
        return Settlement(None, (), _notes(since, sighting, (), watch))
    confirmed = -1
    for number, one in enumerate(sighting.pending):
        if _has_settled(one, sighting.standby, watch, snapshot):
            confirmed = number
    position = sighting.pending[confirmed].value if confirmed >= 0 else since.position
    pending = sighting.pending[confirmed + 1 :]
    return Settlement(position, pending, _notes(since, sighting, pending, watch))


def _has_settled(one: PendingKey, standby: bool, watch: Watch, snapshot: Snapshot) -> bool:
    if watch.prepared or not watch.running.keys().isdisjoint(one.transactions):
        return False
    return not (standby or one.standby) or snapshot.xmin >= one.xmax


def _notes(
    since: KeyBasedBookmark, sighting: Sighting, pending: Sequence[PendingKey], watch: Watch
) -> list[str]:
    notes = []
    if sighting.detached:
        notes.append(
            f"all rows are read every time: those of {', '.join(sighting.detached)} can appear long after"
            " they were written, with keys below any position"
        )
    if sighting.unwritten:
        notes.append(
            "the position waits for the server to write its log to disk (`wal_writer_delay`); rows above it are"
            " read again, none is lost"
        )
    held = {name for one in pending if one in since.pending for name in one.transactions}
    processes = sorted({watch.running[name] for name in held & watch.running.keys()})
    if processes:
        notes.append(
            "the position waits for transactions that ran at an earlier sync, of the server processes"
            f" {', '.join(map(str, processes))}; rows above it are read again, none is lost"
        )
    if watch.prepared and pending:
        notes.append(
            f"the position waits for {watch.prepared} prepared transactions (pg_prepared_xacts);"
            " rows above it are read again, none is lost"
        )
    if sighting.standby and not sighting.detached:
        notes.append(
            "read from a standby, which does not show the primary's running transactions: a row may be"
            " missed whose transaction began long before it first wrote; read from the primary to be sure"
        )
    return notes


def _went_backwards(table: Table, column: Column) -> BookmarkUnusable:
    return BookmarkUnusable(
        f"{table.id}: the greatest {column.name} lies below the stored position",
        detail="a backup was restored, keys were rewritten, or the newest rows were deleted: rows with"
        " keys that come a second time would not be read",
        hint=f"if only the newest rows were deleted, the next row that is written ends this;"
        f" otherwise `pg-ingest reset {table.id}` reads all rows again",
    )
