"""Sizes as PostgreSQL writes them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from pg_ingest.config.size import Size

ADAPTER: TypeAdapter[int] = TypeAdapter(Size)


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MB", 268435456), ("1 GB", 1 << 30), ("10B", 10), ("3kB", 3072), ("1TB", 1 << 40), (7, 7)],
)
def test_sizes(text: Any, size: int) -> None:
    assert ADAPTER.validate_python(text) == size


@pytest.mark.parametrize("text", ["256", "256mb", "-1MB", "1.5GB", "", True, 1.5, None])
def test_no_sizes(text: Any) -> None:
    with pytest.raises(ValidationError, match="256MB"):
        ADAPTER.validate_python(text)
