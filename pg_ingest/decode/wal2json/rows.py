"""The rows of one relation's messages: read by its layout, one run of messages for each layout it had.

An update always lists an `identity`: the old one where the server logged it (the key changed, or REPLICA
IDENTITY FULL), and otherwise the new row's own. So the old row counts (`b`) only where it differs, or where it
is a whole row. A column that the new row leaves out but the identity has did not change: it is filled in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from pg_ingest.decode.messages import Bytes, Integers, Layout
from pg_ingest.decode.tuples import Values, as_text
from pg_ingest.decode.wal2json.headers import DELETE, INSERT, UPDATE
from pg_ingest.decode.wal2json.layout import learn
from pg_ingest.decode.wal2json.tokens import Mask, Tokens
from pg_ingest.decode.wal2json.walk import ABSENT, NULL, Cells, Walk
from pg_ingest.decode.wire import broken

_COLUMNS = b',"columns":['
_IDENTITY = b',"identity":['
_END = b"}"
_FEW = 64
"""Messages that are tried with a layout that has just been learnt; more when it fits."""


@dataclass(frozen=True, slots=True, eq=False)
class Listings:
    """Messages of one relation that have not been read: as in `headers.Tables`, with their tags."""

    tokens: Tokens
    tags: Bytes
    indexes: Integers
    at: Integers
    quotes: Integers

    def __len__(self) -> int:
        return len(self.indexes)

    def part(self, start: int, end: int | None = None) -> Listings:
        """Some of them."""
        which = slice(start, end)
        return Listings(
            self.tokens, self.tags[which], self.indexes[which], self.at[which], self.quotes[which]
        )

    def message(self, number: int) -> tuple[bytes, int]:
        """One message whole, and its number in the piece."""
        index = int(self.indexes[number])
        messages = self.tokens.messages
        start = int(messages.starts[index])
        return messages.buffer[start : start + int(messages.lengths[index])].tobytes(), index


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Messages that have one layout.

    Attributes:
        columns, identity: by column, what stands in the lists of those names.
    """

    listings: Listings
    layout: Layout
    columns: Mapping[str, Cells]
    identity: Mapping[str, Cells]

    def rows(self, *, old: bool) -> tuple[Mask, dict[str, Cells]]:
        """Which messages have a new (or an old) row, and for these the cells of each column."""
        which = self._old() if old else self.listings.tags != DELETE
        cells: dict[str, Cells] = {}
        for column in self.layout.columns:
            own, told = self.columns[column.name], self.identity.get(column.name)
            if told is None:
                found = _nowhere(self.listings) if old else own
            else:
                found = told if old else _filled(own, told)
            cells[column.name] = Cells(found.kinds[which], found.starts[which], found.ends[which])
        return which, cells

    @property
    def whole(self) -> bool:
        """Old rows have every column."""
        return self.layout.whole

    def _old(self) -> Mask:
        deletes: Mask = self.listings.tags == DELETE
        updates: Mask = self.listings.tags == UPDATE
        if self.whole:
            return deletes | updates
        changed = np.zeros(len(self.listings), dtype=np.bool_)
        for name in self.layout.identity:
            new, told = self.columns[name], self.identity[name]
            both = np.flatnonzero(updates & (new.kinds != ABSENT))
            changed[both] |= self._differ(new, told, both, name)
        return deletes | changed

    def _differ(self, new: Cells, told: Cells, which: Integers, name: str) -> Mask:
        buffer = self.listings.tokens.messages.buffer
        texts = [
            as_text(buffer, Values(cells.starts[which], cells.ends[which], None, None), name)
            for cells in (new, told)
        ]
        same: Mask = pc.equal(*texts).to_numpy(zero_copy_only=False)
        differ: Mask = ~same | (new.kinds[which] != told.kinds[which])
        return differ


def _filled(own: Cells, told: Cells) -> Cells:
    """The new row's values, and the identity's where it leaves them out."""
    left_out = own.kinds == ABSENT
    if not left_out.any():
        return own
    return Cells(
        np.where(left_out, told.kinds, own.kinds),
        np.where(left_out, told.starts, own.starts),
        np.where(left_out, told.ends, own.ends),
    )


def _nowhere(listings: Listings) -> Cells:
    return Cells(np.full(len(listings), NULL, dtype=np.uint8), listings.at, listings.at)


def read_all(listings: Listings, known: Layout | None, live: Collection[int]) -> Iterator[Read]:
    """All messages in the order of the log; raises ProtocolError, and Unclear as `layout.learn` does.

    `live`: the positions of the columns that the relation has now.
    """
    layout = known
    size = len(listings)
    while len(listings):
        count = 0
        if layout is not None:
            found, good = _attempt(listings.part(0, size), layout)
            count = len(good) if good.all() else int(np.argmin(good))
            if count:
                yield _head(found, count)
                listings = listings.part(count)
                size *= 4
        if len(listings) and (layout is None or count < len(good)):
            layout = _learnt(listings, layout, live)
            size = _FEW


def _learnt(listings: Listings, known: Layout | None, live: Collection[int]) -> Layout:
    """The layout that fits the first of these messages."""
    data, index = listings.message(0)
    layout = learn(data, index, known, live)
    found, good = _attempt(listings.part(0, 1), layout)
    if layout == known or not good.all():
        reached = found.listings.at[0] - listings.tokens.messages.starts[index]
        raise broken("a list of columns is not as expected", index=index, position=int(reached))
    return layout


def _attempt(listings: Listings, layout: Layout) -> tuple[Read, Mask]:
    """Read messages by that layout, and which of them have it."""
    walk = Walk(listings.tokens, listings.indexes, listings.at, listings.quotes)
    begun = walk.begin(_COLUMNS)
    columns = walk.columns(layout.columns, positions=True)
    good = ~walk.open & (begun == (listings.tags != DELETE))
    inserts = listings.tags == INSERT
    types = {column.name: column for column in layout.columns}
    begun = walk.begin(_IDENTITY)
    identity = walk.columns([types[name] for name in layout.identity], positions=False)
    good &= ~walk.open & (begun == ~inserts)
    for cells in columns.values():
        good &= ~inserts | (cells.kinds != ABSENT)
    for cells in identity.values():
        good &= inserts | (cells.kinds != ABSENT)
    tokens = listings.tokens
    good &= tokens.has(_END, walk.at, listings.indexes)
    good &= walk.at + len(_END) == tokens.limits[listings.indexes]
    reached = Listings(tokens, listings.tags, listings.indexes, walk.at, walk.quotes)
    return Read(reached, layout, columns, identity), good


def _head(found: Read, count: int) -> Read:
    if count == len(found.listings):
        return found

    def cut(cells: Mapping[str, Cells]) -> dict[str, Cells]:
        return {
            name: Cells(each.kinds[:count], each.starts[:count], each.ends[:count])
            for name, each in cells.items()
        }

    return Read(
        found.listings.part(0, count), found.layout, cut(found.columns), cut(found.identity)
    )
