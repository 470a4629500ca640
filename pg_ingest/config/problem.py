"""What is wrong with a configuration, and how it is told: all of it at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from pg_ingest.errors import ConfigError

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right.

    Attributes:
        path: the keys that lead to it (`("sources", "shop", "host")`).
        what: the fact, one line, lower case.
        remedy: what to do.
        value: the offending value as text, empty when there is none or it must not be shown.
        about: the keys that together make the problem; it is not told when one of them, or a key
            below one, already has a problem of its own.
    """

    path: Path
    what: str
    remedy: str
    value: str = ""
    about: tuple[Path, ...] = ()

    def text(self) -> str:
        """`sources.shop.host: contains a port (db:5432) — write it …`."""
        value = f" ({self.value})" if self.value else ""
        place = ".".join(str(part) for part in self.path) or "the file"
        return f"{place}: {self.what}{value} — {self.remedy}"


def raise_problems(
    name: str,
    problems: Iterable[Problem],
    line_of: Callable[[Path], int | None],
    headline: str = "the configuration",
) -> None:
    """Raise one ConfigError that lists all problems in the order of the file; return without any."""
    found = [(line_of(problem.path), problem.text()) for problem in dict.fromkeys(problems)]
    if not found:
        return
    found.sort(key=lambda entry: entry[0] or 0)
    places = [f"{name}:{line}: {text}" if line else f"{name}: {text}" for line, text in found]
    count = "1 problem" if len(places) == 1 else f"{len(places)} problems"
    raise ConfigError(
        f"{headline} has {count}",
        detail=places[0] if len(places) == 1 else "\n  " + "\n  ".join(places),
        hint="correct the file and load it again; docs/configuration.md explains every key",
    )


def refuse(what: str, remedy: str, *, value: str = "") -> PydanticCustomError:
    """The error a validator of the model raises: a fact and its remedy."""
    context: dict[str, Any] = {"what": what, "remedy": remedy, "value": value}
    return PydanticCustomError("refused", "{what} — {remedy}", context)


def nearest(word: str, words: Iterable[str], count: int = 1) -> list[str]:
    """The words most like this one, best first; upper and lower case are alike."""
    by_fold = {known.casefold(): known for known in words}
    fold = word.casefold()
    close = difflib.get_close_matches(fold, list(by_fold), n=count, cutoff=0.6)
    alike = [difflib.SequenceMatcher(None, each, fold).ratio() for each in close]
    return [
        by_fold[each]
        for each, ratio in zip(close, alike, strict=True)
        if ratio >= alike[0] - _AS_GOOD
    ]


_AS_GOOD = 0.1
"""Words less alike than the best by more than this are not worth telling (`public.` is in all)."""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`did you mean schedule?`, or all words when none is near and they are few."""
    known = sorted(words)
    close = nearest(word, known)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(known)}" if known else "remove it"
