"""Rows that are handed on only when all of them have come.

What a stage has taken cannot be taken back row by row. So the rows of a statement that may break off, and
will then be read again in another way, wait here: in memory while they are few, beyond that in a file without
a name, which is gone with the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

import pyarrow as pa

from pg_ingest.batch import REJECTED_SCHEMA, Batch
from pg_ingest.errors import DestinationFailed

IN_MEMORY = 32 << 20
"""Bytes of compressed rows that are not worth a file."""

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


class Spool(AbstractContextManager["Spool"]):
    """Takes the batches of one schema, then gives them back once."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._rows = _Stream(self._held)
        self._rejected = _Stream(self._held)
        self._sizes: list[int] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def take(self, batches: Iterator[Batch]) -> Self:
        """All of them; what they raise comes out unchanged. DestinationFailed where there is no room."""
        for batch in batches:
            try:
                self._rows.write(batch.rows)
                if batch.rejected is not None:
                    self._rejected.write(batch.rejected)
            except OSError as error:
                raise DestinationFailed(
                    "rows cannot be kept until the statement that reads them has ended",
                    detail=f"{tempfile.gettempdir()}: {error.strerror}",
                    hint="make room there, or let TMPDIR name another folder",
                ) from error
            self._sizes.append(batch.size)
        return self

    def batches(self) -> Iterator[Batch]:
        """What was taken, with all rejected rows at the end."""
        schema = None
        for rows, size in zip(self._rows.read(), self._sizes, strict=True):
            schema = rows.schema
            yield Batch(rows, size=size)
        for rejected in self._rejected.read():
            assert schema is not None
            empty = pa.RecordBatch.from_pylist([], schema=schema)
            yield Batch(empty, rejected.cast(REJECTED_SCHEMA))


class _Stream:
    """Record batches of one schema in Arrow's stream format."""

    def __init__(self, held: ExitStack) -> None:
        self._held = held
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._file = self._held.enter_context(
                tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
            )
            sink = pa.PythonFile(self._file, mode="w")
            self._writer = pa.ipc.new_stream(sink, batch.schema, options=_COMPRESSED)
        self._writer.write_batch(batch)

    def read(self) -> Iterator[pa.RecordBatch]:
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        self._file.seek(0)
        with pa.ipc.open_stream(pa.PythonFile(self._file, mode="r")) as reader:
            yield from reader
