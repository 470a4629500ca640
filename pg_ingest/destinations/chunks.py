"""What a destination can do that keeps the chunks of a load until the load is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pyarrow as pa

from pg_ingest.batch import Batch, Everything, LoadReport, Reading
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.destination import (
    Destination,
    LoadReportDraft,
    StreamId,
    Target,
)


@dataclass(frozen=True, slots=True)
class ChunkedLoad:
    """A load that has begun and is not visible yet.

    Attributes:
        id: tells it from an earlier or later load of the same stream.
        target: where its rows will stand.
        method: that began it.
        plan: what was decided when it began, in the method's own words.
        chunks: how many the plan has, numbered from 0.
        done: those that are stored.
        rows, bytes: of these, as they were read.
        caught_up: bookmark up to which the stored rows have been brought on since, None for not at all.
        begun_at: ISO 8601, UTC.
        run_id: of the run that began it.
    """

    id: str
    stream: StreamId
    target: Target
    method: str
    plan: str
    chunks: int
    done: frozenset[int]
    rows: int
    bytes: int
    caught_up: Bookmark | None
    begun_at: str
    run_id: str


class ReceivedChunk(Protocol):
    """The rows of a chunk, all of them here, not stored yet."""

    rows: int
    bytes: int


@runtime_checkable
class KeepsChunks(Destination, Protocol):
    """A destination whose loads may come in chunks; what it was told survives this process.

    Several threads may receive and keep chunks of one load at a time. Every call may raise DestinationBusy and
    DestinationFailed; DestinationBusy also when the load is not there any more, because another process has
    finished it or thrown it away.
    """

    def chunked_loads(self) -> list[ChunkedLoad]:
        """All unfinished loads, in order of their streams."""
        ...

    def chunked_load(self, stream: StreamId) -> ChunkedLoad | None:
        """The stream's unfinished load. Any other commit of the stream ends it."""
        ...

    def standing(self, stream: StreamId) -> tuple[Bookmark | None, ChunkedLoad | None]:
        """The stream's bookmark and its unfinished load, in one look."""
        ...

    def begin_chunks(
        self, stream: StreamId, target: Target, schema: pa.Schema, begun: BegunLoad
    ) -> ChunkedLoad:
        """Begin a load; an unfinished one of the stream goes. What is visible stays as it is."""
        ...

    def receive_chunk(
        self, target: Target, schema: pa.Schema, batches: Iterator[Batch], *, max_rejected: int
    ) -> AbstractContextManager[ReceivedChunk]:
        """Read all batches; memory stays bounded, and what is visible is not held meanwhile.

        An error raised by `batches` comes out unchanged. More than `max_rejected` rejected rows raise
        TooManyRejected.
        """
        ...

    def keep_chunk(
        self,
        load: ChunkedLoad,
        number: int,
        received: ReceivedChunk,
        *,
        max_rejected: int,
        notes: Sequence[str] = (),
    ) -> bool:
        """Store a chunk's rows and that it is done, in ONE transaction; False when it was done already.

        `notes` are what the method wants to know of these rows later. Raises TooManyRejected when that makes
        more rejected rows of the whole load.
        """
        ...

    def chunk_notes(self, load: ChunkedLoad) -> list[str]:
        """The notes of all chunks of the load that are stored now, in no order."""
        ...

    def catch_up(self, load: ChunkedLoad, reading: Reading, *, max_rejected: int) -> None:
        """Apply what has changed meanwhile to the rows kept, with its bookmark; not Everything, nor Window.

        Raises DestinationBusy when they have been brought on already from where `load` says they are.
        """
        ...

    def publish_chunks(
        self,
        load: ChunkedLoad,
        schema: pa.Schema,
        scope: Everything,
        bookmark: Bookmark,
        report: LoadReportDraft,
    ) -> LoadReport:
        """Make the rows visible in place of the stored ones; as `Stage.commit`, and the load is over."""
        ...

    def drop_chunks(self, stream: StreamId) -> None:
        """Throw the stream's unfinished load away, if there is one."""
        ...


@dataclass(frozen=True, slots=True)
class BegunLoad:
    """What is known of a load when it begins; see ChunkedLoad."""

    method: str
    plan: str
    chunks: int
    run_id: str
