"""Bytes that should be UTF-8 and may not be.

A database of encoding SQL_ASCII stores any bytes. To a session of client_encoding UTF8 the server refuses
to send what is not UTF-8 (`pg_server_to_any` in src/backend/utils/mb/mbutils.c); to one of
client_encoding SQL_ASCII it sends the bytes as they are, and here the rows that are text are told from
those that are not.

What comes through the log is kept as text until it is applied. There a value that is not UTF-8 is its hex
digits behind a NUL (`marked`), which no text of PostgreSQL begins with, and becomes bytes again before it is
decoded (`unmarked`), to be rejected like one that was read from the table. One such row must not stop the log
of all tables, and keep the source's WAL.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.decoded import blank, refuse

_UTF8 = (
    r"\A(?:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|\xED[\x80-\x9F][\x80-\xBF]"
    r"|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}"
    r"|\xF4[\x80-\x8F][\x80-\xBF]{2})*\z"
)
"""Table 3-7 of the Unicode Standard; on binary arrays a pattern matches bytes."""


def as_text(raw: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """The bytes as strings, null where they are not UTF-8, and the problems of those."""
    wrong = pc.invert(pc.match_substring_regex(raw, _UTF8))
    return pc.cast(blank(raw, wrong), pa.string()), refuse(wrong, "not valid UTF-8")


def as_text_or_hex(raw: pa.Array) -> pa.Array:
    """The bytes as strings, as `\\x` and hex digits where they are not UTF-8."""
    digits = pc.cast(pl.Series(raw, dtype=pl.Binary).bin.encode("hex").to_arrow(), pa.string())
    return pc.coalesce(as_text(raw)[0], pc.binary_join_element_wise("\\x", digits, ""))


def marked(raw: pa.Array) -> pa.Array:
    """The bytes as strings, where they are not UTF-8 as a NUL and hex digits."""
    digits = pc.cast(pl.Series(raw, dtype=pl.Binary).bin.encode("hex").to_arrow(), pa.string())
    return pc.coalesce(as_text(raw)[0], pc.binary_join_element_wise(_NUL, digits, ""))


def unmarked(texts: pa.Array) -> pa.Array:
    """What `marked` was made of: binary where there are marks, else the texts as they are."""
    if not pc.any(pc.starts_with(texts, _NUL)).as_py():
        return texts
    series = pl.Series(texts)
    wrong = series.str.starts_with(_NUL).fill_null(False)
    raw = series.str.strip_prefix(_NUL).zip_with(wrong, pl.Series([None], dtype=pl.String))
    found = raw.str.decode("hex").zip_with(wrong, series.cast(pl.Binary))
    return pc.cast(found.to_arrow(), pa.binary())


_NUL = "\x00"
