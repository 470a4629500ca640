"""What a later version will do is recognised and refused in words, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config import available
from pg_ingest_tests.config.conftest import table, whole


def refused(refusal: Any, content: dict[str, Any]) -> str:
    [told] = refusal(content)
    return str(told.partition(" ")[2])


@pytest.mark.parametrize("shape", ["history", "append"])
def test_shapes(refusal: Any, shape: str) -> None:
    assert refused(refusal, whole(sources={"shop": table(shape=shape)})) == (
        f"sources.shop.tables.public.orders.shape: the shape {shape} is not available yet in 0.1 — "
        "available: live, soft_delete"
    )


def test_hashed_columns(refusal: Any) -> None:
    assert refused(refusal, whole(sources={"shop": table(hash_columns=["email"])})) == (
        "sources.shop.tables.public.orders.hash_columns: hash_columns is not available yet in 0.1 — "
        "available: exclude_columns, or columns"
    )


@pytest.mark.parametrize("kind", ["delta", "postgres"])
def test_destinations(refusal: Any, kind: str) -> None:
    place = {"type": kind, "host": "h", "path": "s3://x"}
    assert refused(refusal, whole(destination=place)) == (
        f"destination: the destination {kind} is not available yet in 0.1 — available: duckdb"
    )


def test_nothing_else_in_the_configuration_knows_the_version() -> None:
    folder = Path(available.__file__).parent
    others = [path for path in folder.glob("*.py") if path.name != "available.py"]
    assert not [path.name for path in others if "not available yet" in path.read_text("utf-8")]
