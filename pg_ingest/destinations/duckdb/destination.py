"""The DuckDB destination: a file that is open only while it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa

from pg_ingest.batch import Batch, Everything, LoadReport, Reading
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.chunks import BegunLoad, ChunkedLoad, ReceivedChunk
from pg_ingest.destinations.destination import LoadReportDraft, StreamId, TableStatus, Target
from pg_ingest.destinations.duckdb import faults, ledger
from pg_ingest.destinations.duckdb.chunks import DuckDbChunks
from pg_ingest.destinations.duckdb.file import DuckDbFile
from pg_ingest.destinations.duckdb.spool import SpooledChunk, spooled
from pg_ingest.destinations.duckdb.stage import DuckDbStage, roll_back


class DuckDbDestination:
    """Tables in one DuckDB file. See `destinations.destination.Destination` for the promises.

    Args:
        path: the file; it and its folder are made by the first load.
        patience: seconds to wait for another process to close the file before DestinationBusy.
    """

    kind = "duckdb"

    def __init__(self, path: Path, *, patience: float = 30.0) -> None:
        self.file = DuckDbFile(Path(path), patience)

    def bookmark(self, stream: StreamId) -> Bookmark | None:
        """The stream's bookmark, None before its first load. Makes no file."""
        with self.file.reading() as connection, self._translated("read the bookmark"):
            if connection is None or not ledger.exists(connection):
                return None
            return ledger.read_bookmark(connection, stream)

    def status(self) -> list[TableStatus]:
        """Every stream with a bookmark, in order. Makes no file."""
        with self.file.reading() as connection, self._translated("read the bookmarks"):
            if connection is None or not ledger.exists(connection):
                return []
            return ledger.status(connection)

    @contextmanager
    def stage(
        self,
        stream: StreamId,
        target: Target,
        schema: pa.Schema,
        batches: Iterator[Batch],
        *,
        max_rejected: int,
    ) -> Iterator[DuckDbStage]:
        """Read all `batches` into a stage; memory stays bounded whatever their number.

        The file is held from here to the end of the `with` block. Leaving it without a commit leaves no
        trace. Raises TooManyRejected, DestinationBusy, DestinationFailed, and whatever `batches` raises.
        """
        with self.file.writing() as connection:
            stage = DuckDbStage(connection, self.file.path, stream, target, schema)
            try:
                stage.fill(batches, max_rejected)
                yield stage
            finally:
                if not stage.committed:
                    roll_back(connection)

    def chunked_loads(self) -> list[ChunkedLoad]:
        """All unfinished loads, in order. Makes no file."""
        return self._chunks.all()

    def chunked_load(self, stream: StreamId) -> ChunkedLoad | None:
        """The stream's unfinished load. Makes no file."""
        return next((load for load in self._chunks.all() if load.stream == stream), None)

    def standing(self, stream: StreamId) -> tuple[Bookmark | None, ChunkedLoad | None]:
        """The stream's bookmark and its unfinished load. Makes no file."""
        with self.file.reading():  # both below share what this one has opened
            return self.bookmark(stream), self.chunked_load(stream)

    def begin_chunks(
        self, stream: StreamId, target: Target, schema: pa.Schema, begun: BegunLoad
    ) -> ChunkedLoad:
        """Begin a load; an unfinished one of the stream goes."""
        return self._chunks.begin(stream, target, schema, begun)

    @contextmanager
    def receive_chunk(
        self, target: Target, schema: pa.Schema, batches: Iterator[Batch], *, max_rejected: int
    ) -> Iterator[SpooledChunk]:
        """Read all batches into a file beside the database, which is not held meanwhile."""
        doing = self._translated(f"receive rows of {target}")
        with doing, spooled(self.file.path, str(target), schema, batches, max_rejected) as chunk:
            yield chunk

    def keep_chunk(
        self,
        load: ChunkedLoad,
        number: int,
        received: ReceivedChunk,
        *,
        max_rejected: int,
        notes: Sequence[str] = (),
    ) -> bool:
        """Store a chunk's rows and that it is done; False when it was done already."""
        assert isinstance(received, SpooledChunk)
        return self._chunks.keep(load, number, received, max_rejected, notes)

    def chunk_notes(self, load: ChunkedLoad) -> list[str]:
        """What was noted beside the chunks that are stored."""
        return self._chunks.notes(load)

    def catch_up(self, load: ChunkedLoad, reading: Reading, *, max_rejected: int) -> None:
        """Apply what has changed meanwhile to the rows kept."""
        self._chunks.catch_up(load, reading, max_rejected)

    def publish_chunks(
        self,
        load: ChunkedLoad,
        schema: pa.Schema,
        scope: Everything,
        bookmark: Bookmark,
        report: LoadReportDraft,
    ) -> LoadReport:
        """Make the rows visible in place of the stored ones, and end the load."""
        return self._chunks.publish(load, schema, scope, bookmark, report)

    def drop_chunks(self, stream: StreamId) -> None:
        """Throw the stream's unfinished load away, if there is one."""
        self._chunks.drop(stream)

    @property
    def _chunks(self) -> DuckDbChunks:
        return DuckDbChunks(self.file)

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return faults.translated(self.file.path, doing)
