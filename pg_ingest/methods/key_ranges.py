"""Ranges of a key with their rows and checksums: compared, cut, joined, packed for the bookmark.

Checksums add up (see `postgres/checksum.py`), so a range that is cut has the sum of its pieces, and joined
ranges have the sum of theirs. Bounds are keys that stay where they are: rows that come at the end make the
last range grow, until it is cut, and move no other.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pg_ingest.errors import BookmarkUnusable
from pg_ingest.postgres.key_order import Values

LEAST_ROWS = 500
"""Rows of a range that it does not pay to cut further."""

MOST_RANGES = 25_000
"""A bookmark of so many ranges is about half a megabyte; joining lets there be twice as many at most."""

TOO_LARGE = 3
"""A range is cut when it has more than so many times the wanted rows."""

_MODULUS = 1 << 64


def wanted_rows(total: int) -> int:
    """Rows that a range of a table of so many rows should have.

    Few rows a range mean that less travels for a change, many ranges a longer bookmark: their number grows with
    the square root (6 M rows: 4,900 ranges of 1,225).
    """
    count = min(total / LEAST_ROWS, 2 * math.sqrt(total), MOST_RANGES)
    return math.ceil(total / max(count, 1.0))


@dataclass(frozen=True, slots=True)
class KeyRanges:
    """Ranges that hold every key: one below each bound and one from the last bound on.

    Attributes:
        bounds: ascending.
        rows: of each range.
        sums: of each range: its checksums modulo 2^64.
    """

    bounds: tuple[Values, ...]
    rows: tuple[int, ...]
    sums: tuple[int, ...]

    @classmethod
    def of(
        cls, bounds: Sequence[Values], found: Mapping[int, tuple[int, int]], first: int = 0
    ) -> KeyRanges:
        """From what the server found at each place, places counted from `first` on."""
        pairs = [found.get(first + place, (0, 0)) for place in range(len(bounds) + 1)]
        return cls(tuple(bounds), tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))

    @classmethod
    def empty(cls, bounds: Sequence[Values]) -> KeyRanges:
        """Ranges of a table without rows."""
        return cls.of(bounds, {})

    def more(self, found: Mapping[int, tuple[int, int]]) -> KeyRanges:
        """The ranges with more rows in them, given with their checksums by place."""
        rows, sums = list(self.rows), list(self.sums)
        for place, (count, total) in found.items():
            rows[place] += count
            sums[place] = (sums[place] + total) % _MODULUS
        return KeyRanges(self.bounds, tuple(rows), tuple(sums))

    def changed(self, before: KeyRanges) -> list[int]:
        """The places of ranges that are not what they were; both have the same bounds."""
        pairs = zip(self.rows, self.sums, before.rows, before.sums, strict=True)
        return [place for place, (r, s, r0, s0) in enumerate(pairs) if (r, s) != (r0, s0)]

    def too_large(self, among: Collection[int]) -> list[int]:
        """Those of the places whose range should be cut."""
        most = TOO_LARGE * wanted_rows(sum(self.rows))
        return [place for place in among if self.rows[place] > most]

    def cut(
        self,
        bounds: Sequence[Values],
        places: Collection[int],
        found: Mapping[int, tuple[int, int]],
    ) -> KeyRanges:
        """The ranges with more bounds, all of which lie in the ranges at `places`.

        Args:
            bounds: the old ones and the new, ascending.
            found: what is at the new places of what was cut.
        """
        old, place = set(self.bounds), 0
        rows, sums = [], []
        for number in range(len(bounds) + 1):
            if number and bounds[number - 1] in old:
                place += 1
            known = (self.rows[place], self.sums[place])
            count, total = found.get(number, (0, 0)) if place in places else known
            rows.append(count)
            sums.append(total)
        return KeyRanges(tuple(bounds), tuple(rows), tuple(sums))

    def joined(self) -> KeyRanges:
        """Neighbours that together have no more than the wanted rows are one range."""
        most = wanted_rows(sum(self.rows))
        bounds: list[Values] = []
        rows, sums = [self.rows[0]], [self.sums[0]]
        for bound, count, total in zip(self.bounds, self.rows[1:], self.sums[1:], strict=True):
            if rows[-1] + count <= most:
                rows[-1] += count
                sums[-1] = (sums[-1] + total) % _MODULUS
            else:
                bounds.append(bound)
                rows.append(count)
                sums.append(total)
        return KeyRanges(tuple(bounds), tuple(rows), tuple(sums))

    def packed(self) -> str:
        """A short text: about 15 bytes a range."""
        columns = [list(column) for column in zip(*self.bounds, strict=True)]
        sums = np.array(self.sums, "<u8").tobytes()
        head = json.dumps([columns, self.rows], ensure_ascii=False, separators=(",", ":")).encode()
        body = len(head).to_bytes(8, "little") + head + sums
        return base64.b85encode(zlib.compress(body, 6)).decode()

    @classmethod
    def unpacked(cls, text: str) -> KeyRanges:
        """What `packed` wrote; raises BookmarkUnusable for anything else."""
        try:
            body = zlib.decompress(base64.b85decode(text))
            end = 8 + int.from_bytes(body[:8], "little")
            columns, rows = json.loads(body[8:end])
            sums = np.frombuffer(body[end:], "<u8").tolist()
            ranges = cls(tuple(zip(*columns, strict=True)), tuple(rows), tuple(sums))
            if not len(ranges.bounds) + 1 == len(ranges.rows) == len(ranges.sums):
                raise ValueError("its parts do not fit together")
        except (ValueError, TypeError, zlib.error) as error:
            raise BookmarkUnusable(
                "the key ranges in the stored bookmark cannot be read",
                detail=type(error).__name__,
                hint="it was written by another version or by hand; `pg-ingest reset TABLE` reloads the"
                " table",
            ) from error
        return ranges


@dataclass(frozen=True, slots=True)
class Runs:
    """Neighbouring places taken together.

    Attributes:
        bounds: indexes of bounds: runs begin at the first, third, … and end before the second, fourth, …
        open_start: there is one more run below the first bound, and the others change places.
        far: positions in `bounds` of the ends before the widest gaps, ascending.
    """

    bounds: tuple[int, ...]
    open_start: bool
    far: tuple[int, ...]


def runs_of(places: Sequence[int], rows: Sequence[int], most_pieces: int = 8) -> Runs:
    """The runs of some ascending places; `rows` of all places say how wide a gap is."""
    runs: list[tuple[int, int]] = []
    for place in places:
        first = runs.pop()[0] if runs and runs[-1][1] == place - 1 else place
        runs.append((first, place))
    bounds: list[int] = []
    gaps: list[tuple[int, int]] = []
    for number, (first, last) in enumerate(runs):
        bounds += [first - 1] if first else []
        if number + 1 < len(runs):
            gaps.append((sum(rows[last + 1 : runs[number + 1][0]]), len(bounds)))
        bounds += [last] if last < len(rows) - 1 else []
    widest = sorted(gaps, reverse=True)[: most_pieces - 1]
    open_start = bool(runs) and runs[0][0] == 0
    return Runs(tuple(bounds), open_start, tuple(sorted(position for _, position in widest)))
