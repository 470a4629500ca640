"""The DuckDB destination: a file that is open only while it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from pg_ingest.batch import Batch
from pg_ingest.bookmark import Bookmark
from pg_ingest.destinations.destination import StreamId, TableStatus, Target
from pg_ingest.destinations.duckdb import faults, ledger
from pg_ingest.destinations.duckdb.file import DuckDbFile
from pg_ingest.destinations.duckdb.stage import DuckDbStage


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
                    _roll_back(connection)

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return faults.translated(self.file.path, doing)


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """End the transaction, if it was begun and DuckDB has not ended it already by an error of its own."""
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        connection.close()
