"""Texts of bool, integer, float and numeric columns → Arrow.

PostgreSQL prints one canonical form, which Arrow's own casts read: `NaN`, `Infinity`, `-0` and
exponents included. Only what has no place in the Arrow type makes a cast fail (a numeric NaN, a
number beyond the declared type), and only then the texts are looked at one by one, by a pattern.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.decoded import Decoded, blank, first_problem, refuse

_FLOAT = r"^(NaN|-?Infinity|-?\d+(\.\d+)?(e[+-]\d+)?)$"


def decode_booleans(texts: pa.Array) -> Decoded:
    """`t` and `f` → bool."""
    true = pc.equal(texts, "t")
    wrong = pc.invert(pc.or_(true, pc.equal(texts, "f")))
    problems = refuse(wrong, "not a bool")
    return Decoded(true if problems is None else blank(true, wrong), problems)


def decode_integers(texts: pa.Array, arrow: pa.DataType) -> Decoded:
    """Decimal digits → int16, int32 or int64."""
    try:
        return Decoded(pc.cast(texts, arrow))
    except pa.ArrowInvalid:
        pass
    malformed = pc.invert(pc.match_substring_regex(texts, r"^-?\d{1,38}$"))
    wide = pc.cast(blank(texts, malformed), pa.decimal128(38, 0))
    highest = pa.scalar(2 ** (arrow.bit_width - 1) - 1, pa.decimal128(38, 0))
    lowest = pa.scalar(-(2 ** (arrow.bit_width - 1)), pa.decimal128(38, 0))
    outside = pc.or_(pc.greater(wide, highest), pc.less(wide, lowest))
    problems = first_problem(
        refuse(malformed, "not an integer"), refuse(outside, f"integer outside {arrow}")
    )
    return Decoded(pc.cast(blank(wide, outside), arrow), problems)


def decode_floats(texts: pa.Array, arrow: pa.DataType) -> Decoded:
    """Shortest exact decimals, `NaN`, `Infinity`, `-Infinity` → float32 or float64."""
    try:
        return Decoded(pc.cast(texts, arrow))
    except pa.ArrowInvalid:
        pass
    wrong = pc.invert(pc.match_substring_regex(texts, _FLOAT))
    return Decoded(pc.cast(blank(texts, wrong), arrow), refuse(wrong, "not a float"))


def decode_decimals(texts: pa.Array, arrow: pa.Decimal128Type) -> Decoded:
    """Fixed-point digits → decimal128; `NaN` and the infinities have no place in it."""
    try:
        return Decoded(pc.cast(texts, arrow))
    except pa.ArrowInvalid:
        pass
    before, scale = arrow.precision - arrow.scale, arrow.scale
    whole = rf"[1-9]\d{{0,{before - 1}}}|0" if before else "0"
    fraction = rf"(\.\d{{1,{scale}}})?" if scale else ""
    special = pc.is_in(texts, value_set=pa.array(["NaN", "Infinity", "-Infinity"]))
    fits = pc.match_substring_regex(texts, rf"^-?({whole}){fraction}$")
    too_big = pc.invert(pc.or_(fits, special))
    name = f"numeric({arrow.precision},{scale})"
    problems = first_problem(
        refuse(special, f"NaN or infinity cannot be stored as {name}"),
        refuse(too_big, f"does not fit {name}"),
    )
    return Decoded(pc.cast(blank(texts, pc.invert(fits)), arrow), problems)
