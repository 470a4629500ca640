"""Shell-style patterns over `schema.table`: `*`, `?`, `[abc]`, `[!abc]`, upper and lower case distinct.

`*` also stands for dots, so `tenant_*` is every table of every schema whose name begins so. Exact
names win over patterns; among patterns the one with the most literal characters wins, then the one
written first.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence


def literal_length(pattern: str) -> int:
    """How many characters of the pattern stand for themselves."""
    return len(re.sub(r"\[!?\]?[^\]]*\]|[*?]", "", pattern))


class Patterns:
    """Patterns compiled once, most specific first."""

    def __init__(self, patterns: Iterable[str]) -> None:
        ranked = sorted(dict.fromkeys(patterns), key=lambda text: -literal_length(text))
        self._compiled = [(text, re.compile(fnmatch.translate(text)).match) for text in ranked]
        whole = "|".join(fnmatch.translate(text) for text in ranked)
        self._any = re.compile(whole).match if ranked else None

    def best(self, name: str) -> str | None:
        """The most specific pattern that matches the name."""
        if self._any is None or not self._any(name):
            return None
        return next((text for text, match in self._compiled if match(name)), None)

    def matches(self, name: str) -> bool:
        """Whether any pattern matches."""
        return self._any is not None and self._any(name) is not None

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """The patterns that match none of the names."""
        return [text for text, match in self._compiled if not any(map(match, names))]
