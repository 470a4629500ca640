"""Bytes that should be UTF-8 and may not be.

A database of encoding SQL_ASCII stores any bytes. To a session of client_encoding UTF8 the server refuses
to send what is not UTF-8 (`pg_server_to_any` in src/backend/utils/mb/mbutils.c); to one of
client_encoding SQL_ASCII it sends the bytes as they are, and here the rows that are text are told from
those that are not.
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
