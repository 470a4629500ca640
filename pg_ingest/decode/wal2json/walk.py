"""The columns of many messages of one relation, found for all of them at once.

The columns stand in the same order in every message, each between texts that are the same, so where a
column begins depends on the columns before it *in its own message* only. One vector holds the place reached
in every message, another the number of the next quote; each column moves both on. It is the way of
`decode.tuples`, with texts to compare instead of lengths to read.

A string ends at the quote after the one that begins it. A value that is no string ends where the text begins
that must follow it, and that one begins at a known distance before the next quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pg_ingest.decode.messages import Bytes, Integers, JsonColumn
from pg_ingest.decode.wal2json.layout import opening
from pg_ingest.decode.wal2json.tokens import QUOTE, Mask, Tokens, byte_at

ABSENT, NULL, BARE, TEXT = range(4)

_NULL = b"null"
_COMMA, _CLOSE, _N = b",]n"
_NEXT = len('},{"')
_LAST = len("}]}")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """One column of some messages: whether it is there, of what kind, and from where to where.

    For what has no text (`ABSENT`, `NULL`) both ends are a place in the message.
    """

    kinds: Bytes
    starts: Integers
    ends: Integers


@dataclass(slots=True, eq=False)
class Walk:
    """Some messages of one relation, and how far each has been read.

    Attributes:
        indexes: their numbers.
        at: the place reached in each.
        quotes: the number of the next quote of each.
        open: the list of columns has not ended yet.
    """

    tokens: Tokens
    indexes: Integers
    at: Integers
    quotes: Integers
    open: Mask = field(init=False)

    def begin(self, text: bytes) -> Mask:
        """Go over `text`, where it stands, and into the list behind it; which messages have it."""
        here = self.tokens.has(text, self.at, self.indexes)
        self.at = self.at + np.where(here, len(text), 0)
        self.quotes = self.quotes + np.where(here, text.count(b'"'), 0)
        empty = here & (self._byte(self.at) == _CLOSE)
        self.at = self.at + empty
        self.open = here & ~empty
        return here

    def columns(self, columns: Sequence[JsonColumn], *, positions: bool) -> dict[str, Cells]:
        """Read these columns as far as they are there; what is not read is seen by `open`."""
        found: dict[str, Cells] = {}
        for column in columns:
            closing = f',"position":{column.position}}}'.encode() if positions else b"}"
            found[column.name] = self._column(opening(column), closing, positions=positions)
        return found

    def _column(self, before: bytes, after: bytes, *, positions: bool) -> Cells:
        here = self.open & self.tokens.has(before, self.at, self.indexes)
        start = self.at + len(before)
        quote = self.quotes + _quotes_in(before)
        first = self._byte(start)
        text = here & (first == QUOTE)
        null = here & (first == _N) & self.tokens.has(_NULL, start, self.indexes)
        bare = here & ~text & ~null
        end = np.where(null, start + len(_NULL), 0)
        if text.any():
            start = start + text
            end = np.where(text, self.tokens.quote(quote + 1), end)
            quote = quote + 2 * text
        if bare.any():
            end = np.where(bare, self._end_of_bare(quote, positions=positions), end)
        behind = end + text
        followed = here & (end >= start) & self.tokens.has(after, behind, self.indexes)
        behind = behind + len(after)
        separator = self._byte(behind)
        ended = followed & (separator == _CLOSE)
        good = ended | (followed & (separator == _COMMA))
        self.open = self.open & ~ended
        kinds = np.where(good, np.where(text, TEXT, np.where(null, NULL, BARE)), ABSENT)
        empty = ~good | null
        cells = Cells(
            kinds.astype(np.uint8),
            np.where(empty, self.at, start),
            np.where(empty, self.at, end),
        )
        self.at = np.where(good, behind + 1, self.at)
        self.quotes = np.where(good, quote + (after.count(b'"')), self.quotes)
        return cells

    def _end_of_bare(self, quote: Integers, *, positions: bool) -> Integers:
        place = self.tokens.quote(quote)
        if positions:
            return place - 1
        limits = self.tokens.limits[self.indexes]
        return np.where(place < limits, place - _NEXT + 1, limits - _LAST)

    def _byte(self, at: Integers) -> Bytes:
        return byte_at(self.tokens.messages.buffer, at)


def _quotes_in(text: bytes) -> int:
    """How many of its quotes are not escaped."""
    return text.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
