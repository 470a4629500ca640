"""From the slot into the change log, durably, and only then is the slot moved.

Why it is right. Each round reads whole transactions, makes their changes durable as segments, commits
them by replacing the manifest, and then advances the slot to the manifest's position. Whatever is killed:

- before the manifest: the segments are not named by it, the next capture removes them and reads again;
- between manifest and advance: the server sends the same transactions again; those that committed below
  the manifest's position are left out. A commit record below it ends at or below it, because the
  position is the end of a commit record or a point up to which everything was read.

So the slot is never ahead of the manifest (`join.py`).

A followed table is known by its oid. Under which name its changes were made does not matter: a table that is
renamed while somebody works on it, and has its own name again before the next capture, has lost none of them.

A destination is not known here. Capture goes on when none can be reached.

Memory: one piece of the log with its decoded form, and twice FLUSH_BYTES of changes: what waits to be written
and what is being written, which a thread does while the next piece is read and decoded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.changelog.chosen import Chosen, only_chosen
from pg_ingest.changelog.durable import make_folder
from pg_ingest.changelog.followed import leave, read_followed
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.changelog.manifest import Manifest, Segment
from pg_ingest.changelog.segments import write_segment
from pg_ingest.decode.messages import Changes, Decoded, Messages, Relation, State
from pg_ingest.errors import ProtocolError
from pg_ingest.lsn import Lsn
from pg_ingest.postgres.log_end import flushed_lsn
from pg_ingest.postgres.plugin import LogPlugin
from pg_ingest.postgres.reader import open_reader
from pg_ingest.postgres.session import Session
from pg_ingest.table import TableId

log = logging.getLogger(__name__)

NO_CHOICE: Mapping[TableId, Chosen] = MappingProxyType({})
"""Every column of every table."""

FLUSH_BYTES = 32 << 20
"""Decoded changes held before they become segments; applying one needs about six times as much."""

ROUND_BYTES = 256 << 20
"""What one round should read: the server may keep it in temporary files meanwhile, and each round makes
it decode what lies between its restart point and the slot's position once more."""

FIRST_MESSAGES = 100_000
MOST_MESSAGES = 8_000_000


@dataclass(frozen=True, slots=True)
class Captured:
    """What one capture did; `rows` and `bytes` (as the server sent them) of all tables."""

    position: Lsn
    transactions: int
    rows: int
    bytes: int
    segments: tuple[Segment, ...]


def capture(
    session: Session,
    changelog: ChangeLog,
    plugin: LogPlugin,
    manifest: Manifest,
    chosen: Mapping[TableId, Chosen] = NO_CHOICE,
    upto: Lsn | None = None,
) -> Captured:
    """Read everything that committed until now into the log, and advance the slot.

    `manifest` is what `join_slot` returned; the slot must still be locked. Of the tables in `chosen` only
    those columns are written. `upto`: where the log ended when it was decided what `plugin` lists, None for
    now. Every round is durable, so what was done before an error stays done. Raises SlotBusy, ProtocolError,
    and what `postgres.faults` makes of a failure.
    """
    changelog.sweep()
    make_folder(changelog.segment_folder)
    names = {entry.oid: table for table, entry in read_followed(changelog).items()}
    target = flushed_lsn(session) if upto is None else upto
    messages = FIRST_MESSAGES
    state = plugin.begin()
    total = Captured(Lsn(manifest.position), 0, 0, 0, ())
    if state.layouts != manifest.layouts:  # known from now on, however little is read
        manifest = replace(manifest, layouts=dict(state.layouts))
        changelog.commit(manifest)
    if total.position >= target:
        return total
    with (
        ThreadPoolExecutor(1, "segments") as writer,
        open_reader(session, manifest.slot, plugin) as wal,
    ):
        while total.position < target:
            done = _Round(changelog, plugin, manifest, state, writer, chosen, names)
            for piece in wal.pieces(upto=target, messages=messages):
                done.take(piece)
            manifest = done.finish(None if done.messages >= messages else target)
            leave(changelog, done.unclear | plugin.unclear())
            changelog.commit(manifest)
            wal.confirm(Lsn(manifest.position))
            messages = _next_size(done.messages, done.bytes, messages)
            state = done.state
            total = _sum(total, done, manifest)
            log.info(
                "captured: slot=%s lsn=%s rows=%d bytes=%d",
                *(manifest.slot, Lsn(manifest.position), done.rows, done.bytes),
            )
    return total


def decode(plugin: LogPlugin, piece: Messages, state: State) -> Decoded:
    """The next piece as its plugin understands it: one place, where it can be watched."""
    return plugin.decode(piece, state)


def _next_size(messages: int, size: int, before: int) -> int:
    """How many messages make about ROUND_BYTES, going by the last round."""
    if not messages:
        return before
    return min(max(1, round(messages * ROUND_BYTES / size)), MOST_MESSAGES)


def _sum(total: Captured, done: _Round, manifest: Manifest) -> Captured:
    return Captured(
        Lsn(manifest.position),
        total.transactions + done.transactions,
        total.rows + done.rows,
        total.bytes + done.bytes,
        total.segments + tuple(done.segments),
    )


@dataclass(slots=True)
class _Round:
    """What was read between two advances of the slot, on its way into segments."""

    changelog: ChangeLog
    plugin: LogPlugin
    manifest: Manifest
    state: State
    writer: Executor
    chosen: Mapping[TableId, Chosen]
    names: Mapping[int, TableId]
    messages: int = 0
    transactions: int = 0
    rows: int = 0
    bytes: int = 0
    segments: list[Segment] = field(default_factory=list)
    unclear: set[int] = field(default_factory=set)
    _end: Lsn | None = None
    _held: dict[int, list[tuple[Relation, list[pa.RecordBatch]]]] = field(default_factory=dict)
    _held_bytes: int = 0
    _writing: list[Future[Segment]] = field(default_factory=list)

    def take(self, piece: Messages) -> None:
        """Decode a piece; write segments when enough is held."""
        decoded = decode(self.plugin, piece, self.state)
        self.state = decoded.state
        self.unclear |= decoded.unclear
        self.messages += len(piece)
        self.bytes += int(piece.lengths.sum())
        self.transactions += decoded.commits
        self._end = decoded.end_lsn or self._end
        for changes in decoded.changes:
            self._hold(changes)
        if self._held_bytes >= FLUSH_BYTES:
            self._flush()

    def _hold(self, changes: Changes) -> None:
        relation = changes.relation
        name = self.names.get(relation.oid, relation.id)
        changes = replace(changes, relation=replace(relation, id=name))
        chosen = self.chosen.get(name)
        changes = changes if chosen is None else only_chosen(changes, chosen)
        rows = changes.rows
        position = self.manifest.position
        if rows.column("_pgi_lsn")[0].as_py() < position:
            rows = rows.filter(pc.greater_equal(rows.column("_pgi_lsn"), position))
        if rows.num_rows:
            runs = self._held.setdefault(changes.relation.oid, [])
            if not runs or runs[-1][0] != changes.relation:
                runs.append((changes.relation, []))
            runs[-1][1].append(rows)
            self.rows += rows.num_rows
            self._held_bytes += rows.nbytes

    def _flush(self) -> None:
        """Let the writer write what is held, after what was given to it before."""
        self._wait()
        number = self.manifest.next_number + len(self.segments)
        folder = self.changelog.segment_folder
        held = [run for runs in self._held.values() for run in runs]
        self._writing = [
            self.writer.submit(write_segment, folder, number + place, relation, batches)
            for place, (relation, batches) in enumerate(held)
        ]
        self._held = {}
        self._held_bytes = 0

    def _wait(self) -> None:
        """Until everything that was given to the writer is durable."""
        self.segments += [written.result() for written in self._writing]
        self._writing = []

    def finish(self, read_upto: Lsn | None) -> Manifest:
        """Write what is held; `read_upto` when nothing that committed before it is left in the slot."""
        if self.state.transaction is not None:
            raise ProtocolError(
                "the server stopped in the middle of a transaction",
                detail=f"transaction {self.state.transaction.xid}",
                hint="nothing was taken over; it is read again with the next capture",
            )
        self._flush()
        self._wait()
        position = max(self.manifest.position, self._end or 0, read_upto or 0)
        return self.manifest.extended(
            tuple(self.segments), Lsn(position), time.time(), self.state.layouts
        )
