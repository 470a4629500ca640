r"""The escapes of JSON strings, taken out of a whole column at once.

A column's strings lie one after the other in one buffer. Each escape is written over by what it means, at
its own place, and the bytes that it does not need any more are left out; no meaning is longer than its
escape. A string never ends within an escape, so the pairs of a run of backslashes that goes on from
one string to the next are still the right ones.

The server's `escape_json` writes `\" \\ \b \f \n \r \t` and, for other control characters, `\u00XX`; all else
that JSON allows is understood as well.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.messages import Bytes, Integers
from pg_ingest.decode.tuples import memory_of
from pg_ingest.decode.wal2json.tokens import BACKSLASH, Mask, in_run
from pg_ingest.errors import ProtocolError

_SHORT = np.zeros(256, dtype=np.uint8)
_SHORT[list(b'"\\/bfnrt')] = list(b'"\\/\b\f\n\r\t')
_UNICODE = ord("u")
_DIGITS = np.full(256, 255, dtype=np.uint8)
_DIGITS[list(b"0123456789")] = range(10)
_DIGITS[list(b"abcdef")] = range(10, 16)
_DIGITS[list(b"ABCDEF")] = range(10, 16)


def unescaped(texts: pa.Array, name: str) -> pa.Array:
    """These strings (null stays null) with their escapes resolved.

    Args:
        texts: not a slice of a longer array.
        name: what they are, for errors.
    """
    if not pc.any(pc.match_substring(texts, "\\")).as_py():
        return texts
    size = len(texts)
    valid, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, dtype=np.int32)[: size + 1]
    buffer = np.frombuffer(data, dtype=np.uint8)[places[0] : places[-1]].copy()
    kept = _resolve(buffer, name)
    before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    moved = before[places.astype(np.int64) - places[0]].astype(np.int32)
    found = pa.Array.from_buffers(
        pa.binary(), size, [valid, memory_of(moved), memory_of(buffer[kept])]
    )
    try:
        return found.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise _wrong(name) from error


def _resolve(buffer: Bytes, name: str) -> Mask:
    """Write the meanings over the escapes; which bytes are left."""
    kept = np.ones(len(buffer), dtype=np.bool_)
    slashes = np.flatnonzero(buffer == BACKSLASH)
    begins = slashes[in_run(slashes) % 2 == 0]
    kinds = buffer[np.minimum(begins + 1, len(buffer) - 1)]
    long = kinds == _UNICODE
    short = begins[~long]
    if (_SHORT[kinds[~long]] == 0).any() or (len(begins) and begins[-1] + 1 >= len(buffer)):
        raise _wrong(name)
    if long.any():
        _resolve_unicode(buffer, kept, begins[long], name)
    buffer[short] = _SHORT[kinds[~long]]
    kept[short + 1] = False
    return kept


def _resolve_unicode(buffer: Bytes, kept: Mask, begins: Integers, name: str) -> None:
    if begins[-1] + 6 > len(buffer):
        raise _wrong(name)
    digits = _DIGITS[buffer[begins[:, None] + np.arange(2, 6)]].astype(np.int64)
    if (digits > 15).any():
        raise _wrong(name)
    points = digits @ np.array([4096, 256, 16, 1])
    high, low = points >> 10 == 0x36, points >> 10 == 0x37
    paired = np.zeros(len(points), dtype=np.bool_)
    paired[:-1] = high[:-1] & low[1:] & (np.diff(begins) == 6)
    second = np.zeros(len(points), dtype=np.bool_)
    second[1:] = paired[:-1]
    if ((high & ~paired) | (low & ~second) | (points == 0)).any():
        raise _wrong(name)
    for offset in range(1, 6):
        kept[begins + offset] = False
    kept[begins[second]] = False
    pairs = np.flatnonzero(paired)
    points[pairs] = 0x10000 + ((points[pairs] & 0x3FF) << 10) + (points[pairs + 1] & 0x3FF)
    _write_utf8(buffer, kept, begins[~second], points[~second])


def _write_utf8(buffer: Bytes, kept: Mask, at: Integers, points: Integers) -> None:
    leads = ((0x80, 0, 0x00), (0x800, 1, 0xC0), (0x10000, 2, 0xE0), (0x110000, 3, 0xF0))
    least = 0
    for limit, more, lead in leads:
        which = (points >= least) & (points < limit)
        where, what = at[which], points[which]
        buffer[where] = lead | (what >> 6 * more)
        for number in range(1, more + 1):
            buffer[where + number] = 0x80 | ((what >> 6 * (more - number)) & 0x3F)
            kept[where + number] = True
        least = limit


def _wrong(name: str) -> ProtocolError:
    return ProtocolError("a JSON string has an escape that means nothing", detail=f"in {name}")
