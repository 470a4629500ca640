"""Texts of date, time, timestamp and timestamptz columns → Arrow.

Arrow's casts read ISO 8601 with four-digit years, which is nearly every value. What they cannot read
is told apart without looking into the text: `infinity` and `-infinity` by comparison, years beyond
9999 and BC by where the first `-` stands and how the text ends. Only those few are parsed by pattern
and turned into days by Hinnant's `days_from_civil` ("chrono-compatible low-level date algorithms",
howardhinnant.github.io/date_algorithms.html) over whole columns: the proleptic Gregorian calendar,
the same one PostgreSQL uses, where 1 BC is the year 0.

Infinity becomes the greatest value of the Arrow type, -infinity its negative: what DuckDB, too, uses
for them. The session's TimeZone is UTC, so an offset is always `+00`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pg_ingest.decode.decoded import Decoded, blank, refuse

INFINITE_DATE = 2**31 - 1
"""Days standing for `infinity` in date32; `-infinity` is its negative."""

INFINITE_TIMESTAMP = 2**63 - 1
"""Microseconds standing for `infinity` in timestamp[us]; `-infinity` is its negative."""

_DAY = 86_400_000_000
_LAST_DAY, _LAST_MOMENT = divmod(INFINITE_TIMESTAMP, _DAY)

_DATE = r"(?P<year>\d{4,7})-(?P<month>\d\d)-(?P<day>\d\d)"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?"
_ERA = r"(?P<era> BC)?"

_Integers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]
_Parser = Callable[[pa.Array], tuple[_Integers, pa.Array]]


def decode_dates(texts: pa.Array) -> Decoded:
    """`2024-02-29`, `0044-03-15 BC`, `infinity` → date32."""
    return _decode(texts, pa.date32(), INFINITE_DATE, _parse_dates)


def decode_timestamps(texts: pa.Array, arrow: pa.TimestampType) -> Decoded:
    """`2024-02-29 12:00:00.5`, with `+00` for a timestamptz → timestamp[us].

    PostgreSQL's timestamps end in the year 294276, 64 bits of microseconds since 1970 already on
    294247-01-10: what lies between is refused.
    """
    return _decode(texts, arrow, INFINITE_TIMESTAMP, _parse_timestamps)


def decode_times(texts: pa.Array) -> Decoded:
    """`12:34:56.789` → time64[us]; `24:00:00` is 86,400,000,000."""
    dated = pc.binary_join_element_wise(pa.scalar("1970-01-01", texts.type), texts, " ")
    try:
        return Decoded(pc.cast(pc.cast(dated, pa.timestamp("us")), pa.time64("us")))
    except pa.ArrowInvalid:
        pass
    fields = pc.extract_regex(texts, f"^{_TIME}$")
    ticks = _time_of_day(fields)
    malformed = pc.if_else(pc.is_valid(texts), pc.is_null(fields), False)
    wrong = pc.or_(malformed, pa.array(ticks > _DAY))
    values = pa.array(ticks, mask=_mask(pc.or_(wrong, pc.is_null(texts))))
    return Decoded(pc.cast(values, pa.time64("us")), refuse(wrong, "not a time"))


def _decode(texts: pa.Array, arrow: pa.DataType, infinite: int, parse: _Parser) -> Decoded:
    try:
        return Decoded(pc.cast(texts, arrow))
    except pa.ArrowInvalid:
        pass
    forever, never = _mask(pc.equal(texts, "infinity")), _mask(pc.equal(texts, "-infinity"))
    ticks, plain = _cast_plain(texts, arrow)
    ticks[forever], ticks[never] = infinite, -infinite
    odd = _mask(pc.is_valid(texts)) & ~(plain | forever | never)
    missing = _mask(pc.is_null(texts))
    problems = None
    if odd.any():
        ticks[odd], reasons = parse(texts.filter(pa.array(odd)))
        missing[odd] |= _mask(pc.is_valid(reasons))
        if reasons.null_count < len(reasons):
            nothing = pa.nulls(len(texts), pa.string())
            problems = pc.replace_with_mask(nothing, pa.array(odd), reasons)
    return Decoded(pc.cast(pa.array(ticks, mask=missing), arrow), problems)


def _cast_plain(texts: pa.Array, arrow: pa.DataType) -> tuple[npt.NDArray[Any], _Mask]:
    """The ticks of texts with a year of four digits AD (0 elsewhere), and which texts those are."""
    four_digits = pc.equal(pc.find_substring(texts, "-"), 4)
    plain = _mask(pc.and_not(four_digits, pc.ends_with(texts, " BC")))
    integer = pa.int32() if pa.types.is_date32(arrow) else pa.int64()
    try:
        values = pc.cast(blank(texts, pa.array(~plain)), arrow)
    except pa.ArrowInvalid:
        return np.zeros(len(texts), integer.to_pandas_dtype()), np.zeros(len(texts), np.bool_)
    return pc.fill_null(pc.cast(values, integer), 0).to_numpy(zero_copy_only=False).copy(), plain


def _parse_dates(texts: pa.Array) -> tuple[_Integers, pa.Array]:
    fields = pc.extract_regex(texts, f"^{_DATE}{_ERA}$")
    days, real = _days(fields)
    return days, _reasons(~real, "not a date")


def _parse_timestamps(texts: pa.Array) -> tuple[_Integers, pa.Array]:
    fields = pc.extract_regex(texts, rf"^{_DATE} {_TIME}(?:\+00)?{_ERA}$")
    (days, real), moment = _days(fields), _time_of_day(fields)
    beyond = (days > _LAST_DAY) | ((days == _LAST_DAY) & (moment >= _LAST_MOMENT))
    reasons = pc.coalesce(
        _reasons(~real | (moment >= _DAY), "not a timestamp"),
        _reasons(beyond, "later than 294247-01-10, where 64 bits of microseconds end"),
    )
    return np.where(beyond, 0, days) * _DAY + moment, reasons


def _days(fields: pa.StructArray) -> tuple[_Integers, _Mask]:
    """Days since 1970-01-01 of the fields year, month, day and era; whether there is such a day."""
    year, month, day = (_number(fields, name) for name in ("year", "month", "day"))
    before_christ = _mask(pc.equal(fields.field("era"), " BC"))
    year = np.where(before_christ, 1 - year, year)
    real = (month >= 1) & (month <= 12) & (day >= 1) & (day <= _month_length(year, month))
    year = year - (month <= 2)
    century4 = year // 400
    year_of_era = year - century4 * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return century4 * 146_097 + day_of_era - 719_468, real


def _month_length(year: _Integers, month: _Integers) -> _Integers:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    lengths: _Integers = 30 + ((month + month // 8) % 2) - (month == 2) * (2 - leap)
    return lengths


def _time_of_day(fields: pa.StructArray) -> _Integers:
    """Microseconds since midnight of the fields hour, minute, second and fraction."""
    hour, minute, second = (_number(fields, name) for name in ("hour", "minute", "second"))
    fraction = pc.cast(pc.ascii_rpad(fields.field("fraction"), 6, "0"), pa.int64())
    seconds = (hour * 60 + minute) * 60 + second
    ticks: _Integers = seconds * 1_000_000 + fraction.to_numpy(zero_copy_only=False)
    return ticks


def _number(fields: pa.StructArray, name: str) -> _Integers:
    """The field as integers, 0 where the text did not match."""
    digits = fields.field(name)
    numbers = pc.cast(pc.if_else(pc.equal(digits, ""), "0", digits), pa.int64())
    result: _Integers = numbers.to_numpy(zero_copy_only=False)
    return result


def _reasons(wrong: _Mask, reason: str) -> pa.Array:
    return pc.if_else(pa.array(wrong), pa.scalar(reason), pa.scalar(None, pa.string()))


def _mask(flags: pa.BooleanArray) -> _Mask:
    """The flags as numpy booleans of their own memory, false where null."""
    result: _Mask = pc.fill_null(flags, False).to_numpy(zero_copy_only=False).copy()
    return result
