"""How a large table is cut for its first load."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from pg_ingest.config.problem import refuse
from pg_ingest.config.strict import Strict, Whole


def _bounds(value: object) -> object:
    """Values as they are written: numbers, dates and texts alike."""
    if not isinstance(value, list | tuple):
        raise refuse("is not a list", "write a list of values: [100000, 200000]")
    if any(isinstance(one, bool | dict | list) or one is None for one in value):
        raise refuse("holds something that is no value", "write numbers, dates or texts")
    texts = tuple(str(one) for one in value)
    if len(set(texts)) != len(texts):
        raise refuse("names a value twice", "write ascending values")
    return texts


class SplitHints(Strict):
    """What the server's statistics do not know about a large table."""

    rows: Whole | None = Field(
        default=None, ge=0, description="Rows of the table, about; default: the server's estimate."
    )
    bounds: Annotated[tuple[str, ...], BeforeValidator(_bounds)] = Field(
        default=(),
        description="Ascending values of the first column of split_key at which chunks begin.",
    )


NO_HINTS = SplitHints()
