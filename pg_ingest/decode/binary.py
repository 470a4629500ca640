"""Texts of bytea columns → Arrow binary."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.decoded import Decoded, blank, refuse


def decode_binary(texts: pa.Array) -> Decoded:
    """`\\x` and two hex digits per byte → binary."""
    wrong = pc.invert(pc.starts_with(texts, "\\x"))
    problems = refuse(wrong, "not a bytea in hex form")
    digits = texts if problems is None else blank(texts, wrong)
    series = pl.Series(digits).str.strip_prefix("\\x").str.decode("hex")
    return Decoded(pc.cast(series.to_arrow(), pa.binary()), problems)
