"""Whether a cron line of five fields can be right, told in words.

The grammar is that of crontab(5) with names for months and weekdays; of its extensions only `7` for
Sunday is known, so that every scheduler reads the line alike.
"""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, dict(zip(_DAYS, range(7), strict=True))),
)
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d{1,4}))?")
_DAYS_IN = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def cron_fault(line: str) -> str | None:
    """What is wrong with the line, None when nothing is."""
    fields = line.lower().split()
    if len(fields) != 5:
        return f"has {len(fields)} field{'s' if len(fields) != 1 else ''} instead of five"
    values = []
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        found = _values(text, low, high, names)
        if found is None:
            return f"has the {name} {text}, which is not between {low} and {high}"
        values.append(found)
    days, months, any_weekday = values[2], values[3], fields[4] == "*"
    if any_weekday and all(day > _DAYS_IN[month - 1] for day in days for month in months):
        return "names a day that its months do not have"
    return None


def _values(text: str, low: int, high: int, names: dict[str, int]) -> set[int] | None:
    """All values of one field, None when it is not one."""
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        bounds = _bounds(match["first"], match["last"], low, high, names, bool(match["step"]))
        step = int(match["step"] or 1)
        if bounds is None or not 0 < step <= high - low:
            return None
        values.update(range(bounds[0], bounds[1] + 1, step))
    return values


def _bounds(
    first: str | None, last: str | None, low: int, high: int, names: dict[str, int], stepped: bool
) -> tuple[int, int] | None:
    if first is None:
        return low, high
    start = _number(first, names)
    end = _number(last, names) if last is not None else (high if stepped else start)
    if start is None or end is None or not low <= start <= end <= high:
        return None
    return start, end


def _number(text: str, names: dict[str, int]) -> int | None:
    if text in names:
        return names[text]
    return int(text) if text.isascii() and text.isdigit() else None
