"""The text of `COPY … (FORMAT csv)` as a stream of Batches.

The stream is cut where a record ends, and each piece is parsed on its own. PostgreSQL quotes every
field that holds a quote, a delimiter or a line break and doubles quotes inside, so a line feed ends a
record exactly when the number of quotes before it is even. Cutting here rather than in pyarrow's
streaming reader gives three things it lacks: a record may be wider than a block, each Batch knows the
bytes it came from, and the source is read by the caller's thread, so that its errors arrive unchanged.

A piece is parsed by another thread while the caller's waits for the next one: neither needs the other's
interpreter lock for long, and the server is never kept waiting for the parser.

NULL is an empty field and the empty string `""`; a table of one column prints NULL as an empty line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import pyarrow as pa
from pyarrow import csv

from pg_ingest.batch import Batch
from pg_ingest.decode.values import decode_batch
from pg_ingest.errors import ProtocolError
from pg_ingest.table import Column

_QUOTE = ord('"')

BLOCK = 4 << 20
"""Bytes asked of the stream at a time, and so about the text of one Batch: enough to make whole-column
operations pay, little enough for the processor's cache."""


class BinaryReader(Protocol):
    """What is read: `read(n)` gives about n bytes, none only at the end."""

    def read(self, n: int, /) -> bytes | bytearray | memoryview:
        """About `n` bytes; empty at the end."""
        ...


def read_copy_csv(
    stream: BinaryReader, columns: Sequence[Column], block: int | None = None
) -> Iterator[Batch]:
    """The rows of the stream, about `block` (BLOCK) bytes of text per Batch and at least one record.

    The sizes of the Batches add up to the bytes read. Columns must be in the order of the statement's
    select list. Raises ProtocolError for bytes that are not such a list's csv; what `stream.read`
    raises comes out unchanged.
    """
    with ThreadPoolExecutor(1, "copy_csv") as parser:
        ahead: Future[Batch] | None = None
        for records in _whole_records(stream, block or BLOCK):
            parsing = parser.submit(_batch, records, columns)
            if ahead is not None:
                yield ahead.result()
            ahead = parsing
        if ahead is not None:
            yield ahead.result()


def _batch(records: bytes, columns: Sequence[Column]) -> Batch:
    if columns:
        return decode_batch(_parse(records, columns), columns, len(records))
    return Batch(_no_columns(records.count(b"\n")), size=len(records))


def _no_columns(rows: int) -> pa.RecordBatch:
    """That many rows of a table without columns, each of which is an empty line."""
    return pa.RecordBatch.from_struct_array(
        pa.StructArray.from_buffers(pa.struct([]), rows, [None])
    )


def _whole_records(stream: BinaryReader, size: int) -> Iterator[bytes]:
    """The stream's bytes in pieces that end with a record."""
    pieces: list[bytes] = []
    quotes = 0
    while block := bytes(stream.read(size)):
        inside = _quotes(block)
        end = _last_record_end(block, quotes, inside)
        quotes += inside
        if end:
            yield b"".join([*pieces, block[:end]])
            pieces = []
        if end < len(block):
            pieces.append(block[end:])
    if pieces:
        raise ProtocolError("COPY ended in the middle of a row")


def _quotes(block: bytes) -> int:
    """How many there are; `bytes.count` looks at one byte at a time and takes ten times as long."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == _QUOTE)) if b'"' in block else 0


def _last_record_end(block: bytes, quotes: int, inside: int) -> int:
    """Where the last record that ends in this block ends, 0 if none does.

    `quotes` is how many came before the block, `inside` how many are in it. Nearly always the last
    line feed is it.
    """
    last = block.rfind(b"\n")
    if last < 0:
        return 0
    if (quotes + inside - block.count(b'"', last)) % 2 == 0:
        return last + 1
    source = np.frombuffer(block, np.uint8)
    line_feeds = np.flatnonzero(source == ord("\n"))
    before = np.searchsorted(np.flatnonzero(source == _QUOTE), line_feeds)
    outside = line_feeds[(quotes + before) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _parse(records: bytes, columns: Sequence[Column]) -> list[pa.Array]:
    """The fields as strings, or as bytes when not all of them are UTF-8."""
    try:
        return _fields(records, len(columns), pa.string())
    except pa.ArrowInvalid:
        pass
    try:
        return _fields(records, len(columns), pa.binary())
    except pa.ArrowInvalid:  # its message quotes the row
        raise ProtocolError(
            "COPY sent rows of another shape", detail=f"expected {len(columns)} columns"
        ) from None


def _fields(records: bytes, count: int, kind: pa.DataType) -> list[pa.Array]:
    names = [str(number) for number in range(count)]
    table = csv.read_csv(
        pa.BufferReader(records),
        read_options=csv.ReadOptions(column_names=names, block_size=len(records) + 1),
        parse_options=csv.ParseOptions(
            newlines_in_values=b'"' in records,  # costs a pass of its own over the text
            ignore_empty_lines=False,
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, kind),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return [column.chunk(0) for column in table.columns]
