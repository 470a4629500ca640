"""Where the strings of many JSON messages lie, found for all of them at once.

wal2json writes no white space and escapes quotes within strings with a backslash, so every quote that is
not escaped begins or ends a string. One vector holds the places of all of them; whoever walks over the
messages counts the quotes it passes, and so knows the end of every string without searching.

A quote is escaped when an odd number of backslashes stands directly before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pg_ingest.decode.messages import Bytes, Integers, Messages
from pg_ingest.decode.wire import broken

QUOTE, BACKSLASH = b'"\\'

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The quotes of some messages.

    Attributes:
        quotes: places of all quotes that are not escaped, ascending.
        first: per message, the number of its first quote in `quotes`.
        limits: per message, the place behind its last byte.
    """

    messages: Messages
    quotes: Integers
    first: Integers
    limits: Integers

    @classmethod
    def of(cls, messages: Messages) -> Tokens:
        """Find them."""
        quotes = _quotes(messages.buffer)
        return cls(
            messages,
            quotes,
            np.searchsorted(quotes, messages.starts),
            messages.starts + messages.lengths,
        )

    def quote(self, numbers: Integers) -> Integers:
        """The places of these quotes; where there is none, a place behind every message."""
        nowhere = len(self.messages.buffer)
        if not len(self.quotes):
            return np.full(len(numbers), nowhere, dtype=np.int64)
        places = self.quotes[np.minimum(numbers, len(self.quotes) - 1)]
        return np.where(numbers < len(self.quotes), places, nowhere)

    def has(self, text: bytes, at: Integers, indexes: Integers) -> Mask:
        """Whether `text` stands at these places, wholly within the messages of these numbers."""
        return has(self.messages.buffer, text, at, self.limits[indexes])

    def check(self, good: Mask, indexes: Integers, at: Integers, message: str) -> None:
        """Raise ProtocolError for the first of these messages that is not `good`."""
        if not good.all():
            first = int(np.argmin(good))
            index = int(indexes[first])
            start, length = self.messages.starts[index], self.messages.lengths[index]
            raise broken(message, index=index, position=int(min(at[first] - start, length)))


def has(buffer: Bytes, text: bytes, at: Integers, limits: Integers) -> Mask:
    """Whether `text`, which holds no NUL, stands at these places and ends at the limits at the latest."""
    size = len(text)
    fits = (at >= 0) & (at + size <= limits)
    if len(buffer) < size or not len(at):
        return np.zeros(len(at), dtype=np.bool_)
    # numpy takes trailing NULs of such texts off before it compares; `text` has none, so equal is equal
    view: npt.NDArray[np.bytes_] = np.ndarray(
        (len(buffer) - size + 1,), dtype=f"S{size}", buffer=buffer, strides=(1,)
    )
    found: Mask = view[np.where(fits, at, 0)] == np.bytes_(text)
    return found & fits


def byte_at(buffer: Bytes, at: Integers) -> Bytes:
    """The bytes at these places, 0 behind the buffer's end."""
    if not len(buffer):
        return np.zeros(len(at), dtype=np.uint8)
    found: Bytes = buffer[np.minimum(at, len(buffer) - 1)]
    return np.where(at < len(buffer), found, 0).astype(np.uint8)


def _quotes(buffer: Bytes) -> Integers:
    quotes = np.flatnonzero(buffer == QUOTE)
    after = quotes[buffer[np.maximum(quotes, 1) - 1] == BACKSLASH]
    if not len(after):
        return quotes
    slashes = np.flatnonzero(buffer == BACKSLASH)
    last = np.searchsorted(slashes, after - 1)
    escaped = in_run(slashes)[last] % 2 == 0
    return quotes[~np.isin(quotes, after[escaped], assume_unique=True)]


def in_run(places: Integers) -> Integers:
    """For each of some ascending places, how many directly before it belong to the same run."""
    numbers = np.arange(len(places))
    begins = np.ones(len(places), dtype=np.bool_)
    begins[1:] = np.diff(places) != 1
    return numbers - np.maximum.accumulate(np.where(begins, numbers, 0))
