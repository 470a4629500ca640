"""What the configuration may already name but this version cannot do yet, in one place.

Shortening this module is how something becomes available: a shape leaves `LATER_SHAPES`, a key leaves
`LATER_KEYS` when the model learns it. Nothing else in the package knows about it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pg_ingest.config.method import Shape

VERSION = "0.1"

LATER_SHAPES = (Shape.HISTORY, Shape.APPEND)

AVAILABLE_DESTINATIONS = ("duckdb",)
LATER_DESTINATIONS = ("delta", "postgres")

# Keys by the path of their parent, with `*` for the name of a source or table, and what to use instead.
LATER_KEYS: dict[tuple[str, ...], dict[str, str]] = {
    ("sources", "*", "tables", "*"): {"hash_columns": "exclude_columns, or columns"},
}


def not_yet(what: str) -> str:
    """The one sentence for everything that is known but not there."""
    return f"{what} is not available yet in {VERSION}"


def available(names: Iterable[str]) -> str:
    """The remedy that goes with `not_yet`."""
    return f"available: {', '.join(names)}"


def offered(words: Iterable[str]) -> list[str]:
    """The words without the shapes of a later version."""
    return [word for word in words if word not in LATER_SHAPES]


def later_key(path: tuple[str | int, ...]) -> str | None:
    """What to use instead of the key at that path when it is one of a later version, else None."""
    parent = tuple(str(part) for part in path[:-1])
    for pattern, keys in LATER_KEYS.items():
        same = len(pattern) == len(parent) and all(
            wanted in ("*", part) for wanted, part in zip(pattern, parent, strict=True)
        )
        if same and path[-1] in keys:
            return keys[str(path[-1])]
    return None
