"""Texts of array columns → JSON text.

An array's text is `{…}` with nested braces for further dimensions, `NULL` for null, and quotes around
elements that hold a brace, a quote, a backslash, white space or the delimiter, that are empty, or that
read `null` (`array_out` in src/backend/utils/adt/arrayfuncs.c). Inside quotes only `"` and `\\` are
escaped, each by a backslash: exactly how JSON escapes them. So a quoted element is JSON already, but
for control characters; braces, delimiters and bare elements outside quotes are what must change.

Numbers and booleans are never quoted, and plain replacement does for them. For all others the bytes of
the whole column are marked at once: which are escaped, which lie in quotes (an odd number of quotes
opened so far; every array closes what it opens, so the count may run on from array to array), which
begin and end a bare element. What is inserted or dropped is a list of positions, and an array's text begins
in the output where it began in the input plus or minus the number of those before it.

An array whose lower bounds are not 1 prints them, `[0:1]={1,2}`, and becomes
`{"lower_bounds":[0],"values":[1,2]}`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.decoded import Decoded
from pg_ingest.decode.types import ElementForm, rule_for
from pg_ingest.table import PgType

_Bytes = npt.NDArray[np.uint8]
_Mask = npt.NDArray[np.bool_]
_Positions = npt.NDArray[np.int64]

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'"\\{}'
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def decode_arrays(texts: pa.Array, element: PgType) -> Decoded:
    """Array texts with elements of type `element` → JSON texts; see the module's head."""
    bounded = pc.fill_null(pc.starts_with(texts, "["), False)
    if not pc.any(bounded).as_py():
        return Decoded(_nested(texts, element))
    parts = pc.extract_regex(texts.filter(bounded), r"(?s)^(?P<bounds>\[[^=]*)=(?P<body>.*)$")
    values = _nested(pc.replace_with_mask(texts, bounded, parts.field("body")), element)
    lows = pc.replace_substring_regex(parts.field("bounds"), r"\[(-?\d+):-?\d+\]", r"\1,")
    lows = pc.replace_substring_regex(lows, r",$", "")
    plain = values.filter(bounded)
    objects = pc.binary_join_element_wise('{"lower_bounds":[', lows, '],"values":', plain, "}", "")
    return Decoded(pc.replace_with_mask(values, bounded, objects))


def _nested(texts: pa.Array, element: PgType) -> pa.Array:
    form = rule_for(element).element
    if form in (ElementForm.NUMBER, ElementForm.BOOLEAN):
        for old, new in (("{", "["), ("}", "]"), ("NULL", "null")):
            texts = pc.replace_substring(texts, old, new)
        if form is ElementForm.NUMBER:
            return pc.replace_substring_regex(texts, r"-?Infinity|NaN", r'"\0"')
        return pc.replace_substring(pc.replace_substring(texts, "f", "false"), "t", "true")
    return _rewrite(texts, ord(element.delimiter), embed=form is ElementForm.JSON)


def _rewrite(texts: pa.Array, delimiter: int, *, embed: bool) -> pa.Array:
    """Structure and bare elements rewritten; with `embed` elements are JSON and lose their quotes."""
    full = pc.fill_null(texts, "")
    ends = np.frombuffer(full.buffers()[1], np.int32)[full.offset :][: len(full) + 1]
    if ends[0] == ends[-1]:
        return texts
    source = np.frombuffer(full.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    offsets = (ends - ends[0]).astype(np.int64)
    marks = _Marks.of(source, delimiter)
    target, moved = (_embed if embed else _quote)(source, marks, delimiter, offsets)
    laid_out = [None, pa.py_buffer(moved), pa.py_buffer(target)]
    written = pa.Array.from_buffers(pa.large_string(), len(texts), laid_out)
    return pc.if_else(pc.is_valid(texts), pc.cast(written, pa.string()), None)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What each byte of array text is. `first` and `last` are positions of bare elements' ends."""

    escaping: _Positions
    quotes: _Mask
    separators: _Mask
    first: _Positions
    last: _Positions
    null: _Mask

    @classmethod
    def of(cls, source: _Bytes, delimiter: int) -> _Marks:
        escaping = _escaping(source)
        quotes = source == _QUOTE
        quotes[escaping + 1] = False
        inside = np.cumsum(quotes, dtype=np.uint8) & 1 == 1
        structure = (source == _OPEN) | (source == _CLOSE) | (source == delimiter)
        separators = structure & ~inside
        bare = ~(inside | quotes | separators)
        edges = np.diff(bare, prepend=False, append=False).nonzero()[0]
        first, last = edges[0::2], edges[1::2] - 1
        return cls(escaping, quotes, separators, first, last, _is_null(source, first, last))


def _escaping(source: _Bytes) -> _Positions:
    """Positions of backslashes that escape the byte after them: every second one of a run."""
    backslashes: _Positions = (source == _BACKSLASH).nonzero()[0]
    if not len(backslashes):
        return backslashes
    begins = np.diff(backslashes, prepend=-2) != 1
    order = np.arange(len(backslashes))
    since = order - np.maximum.accumulate(np.where(begins, order, 0))
    escaping: _Positions = backslashes[since % 2 == 0]
    return escaping


def _is_null(source: _Bytes, first: _Positions, last: _Positions) -> _Mask:
    """Which bare elements read `NULL`."""
    four: _Mask = last - first == 3
    start = np.where(four, first, 0)
    for index, letter in enumerate(b"NULL"):
        four &= source[np.minimum(start + index, len(source) - 1)] == letter
    return four


def _structure(source: _Bytes, marks: _Marks, delimiter: int) -> _Bytes:
    """The bytes with braces and delimiters outside quotes, and NULL, as JSON writes them."""
    table = np.zeros(256, np.uint8)
    table[[_OPEN, _CLOSE, delimiter]] = np.frombuffer(b"[],", np.uint8)
    result = np.where(marks.separators, table[source], source)
    begins = marks.first[marks.null]
    for index, letter in enumerate(b"null"):
        result[begins + index] = letter
    return result


def _embed(
    source: _Bytes, marks: _Marks, delimiter: int, offsets: _Positions
) -> tuple[_Bytes, _Positions]:
    """Quotes and escaping backslashes dropped, so that each element stands as it is."""
    dropped = marks.quotes.copy()
    dropped[marks.escaping] = True
    gone = np.searchsorted(dropped.nonzero()[0], offsets)
    return _structure(source, marks, delimiter)[~dropped], offsets - gone


def _quote(
    source: _Bytes, marks: _Marks, delimiter: int, offsets: _Positions
) -> tuple[_Bytes, _Positions]:
    """Bare elements quoted, control characters written as `\\u00XX`."""
    target = _structure(source, marks, delimiter)
    control = (source < 32).nonzero()[0]
    first, last = marks.first[~marks.null], marks.last[~marks.null]
    target[control] = _BACKSLASH
    escapes = np.empty((len(control), 5), np.uint8)
    escapes[:, :3] = np.frombuffer(b"u00", np.uint8)
    escapes[:, 3], escapes[:, 4] = _HEX[source[control] >> 4], _HEX[source[control] & 15]
    quotes = np.full(len(first) + len(last), _QUOTE, np.uint8)
    places = np.concatenate([np.repeat(control + 1, 5), first, last + 1])
    order = np.argsort(places, kind="stable")
    inserted = np.concatenate([escapes.ravel(), quotes])[order]
    places = places[order]
    return np.insert(target, places, inserted), offsets + np.searchsorted(places, offsets)
