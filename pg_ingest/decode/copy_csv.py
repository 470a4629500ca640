"""The text of `COPY … (FORMAT csv)` as a stream of Batches.

The stream is cut where a record ends, and each piece is parsed on its own. PostgreSQL quotes every
field that holds a quote, a delimiter or a line break and doubles quotes inside, so a line feed ends a
record exactly when the number of quotes before it is even. Cutting here rather than in pyarrow's
streaming reader gives three things it lacks: a record may be wider than a block, each Batch knows the
bytes it came from, and the source is read by the caller's thread, so that its errors arrive unchanged.

NULL is an empty field and the empty string `""`; a table of one column prints NULL as an empty line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa
from pyarrow import csv

from pg_ingest.batch import Batch
from pg_ingest.decode.values import decode_batch
from pg_ingest.table import Column

BLOCK = 4 << 20
"""Bytes asked of the stream at a time, and so about the text of one Batch: enough to make whole-column
operations pay, little enough for the processor's cache."""


class BinaryReader(Protocol):
    """What is read: `read(n)` gives about n bytes, none only at the end."""

    def read(self, n: int, /) -> bytes | bytearray | memoryview:
        """About `n` bytes; empty at the end."""
        ...


def read_copy_csv(stream: BinaryReader, columns: Sequence[Column]) -> Iterator[Batch]:
    """The rows of the stream, about BLOCK bytes of text per Batch and at least one record.

    The sizes of the Batches add up to the bytes read. What `stream.read` raises comes out unchanged.
    Columns must be in the order of the statement's select list.
    """
    for records in _whole_records(stream):
        yield decode_batch(_parse(records, columns), columns, len(records))


def _whole_records(stream: BinaryReader) -> Iterator[bytes]:
    """The stream's bytes in pieces that end with a record."""
    pieces: list[bytes] = []
    quotes = 0
    while block := bytes(stream.read(BLOCK)):
        end = _last_record_end(block, quotes)
        quotes += block.count(b'"')
        if end:
            yield b"".join([*pieces, block[:end]])
            pieces = []
        pieces.append(block[end:])
    if rest := b"".join(pieces):
        yield rest


def _last_record_end(block: bytes, quotes: int) -> int:
    """Where the last record that ends in this block ends, 0 if none does."""
    quotes += block.count(b'"')
    end = len(block)
    while (line_feed := block.rfind(b"\n", 0, end)) >= 0:
        quotes -= block.count(b'"', line_feed, end)
        if quotes % 2 == 0:
            return line_feed + 1
        end = line_feed
    return 0


def _parse(records: bytes, columns: Sequence[Column]) -> list[pa.Array]:
    names = [str(number) for number in range(len(columns))]
    table = csv.read_csv(
        pa.BufferReader(records),
        read_options=csv.ReadOptions(column_names=names, block_size=len(records) + 1),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return [column.combine_chunks() for column in table.columns]
