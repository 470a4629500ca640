"""What a later version will do is recognised and refused in words, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pg_ingest.config import available
from pg_ingest.config.log import Plugin
from pg_ingest.config.method import Method, Shape
from pg_ingest_tests.config.conftest import source, table, whole


def shop(**changes: Any) -> dict[str, Any]:
    return whole(sources={"shop": source(**changes)})


def refused(refusal: Any, content: dict[str, Any]) -> str:
    [told] = refusal(content)
    return str(told.partition(" ")[2])


@pytest.fixture(autouse=True)
def the_first_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests hold whatever has become available since."""
    monkeypatch.setattr(
        available, "AVAILABLE_METHODS", frozenset({Method.FULL_TABLE, Method.KEY_BASED})
    )
    monkeypatch.setattr(available, "AVAILABLE_SHAPES", frozenset({Shape.LIVE}))
    monkeypatch.setattr(available, "AVAILABLE_PLUGINS", frozenset({Plugin.PGOUTPUT}))


@pytest.mark.parametrize("method", ["log_based", "xmin", "snapshot_diff", "delta_snapshot"])
def test_methods(refusal: Any, method: str) -> None:
    words = f"the method {method} is not available yet in 0.1 — available: full_table, key_based"
    assert refused(refusal, shop(method=method)) == f"sources.shop.method: {words}"
    told = refused(refusal, whole(sources={"shop": table(method=method)}))
    assert told == f"sources.shop.tables.public.orders.method: {words}"


@pytest.mark.parametrize("shape", ["soft_delete", "history", "append"])
def test_shapes(refusal: Any, shape: str) -> None:
    assert refused(refusal, whole(sources={"shop": table(shape=shape)})) == (
        f"sources.shop.tables.public.orders.shape: the shape {shape} is not available yet in 0.1 — "
        "available: live"
    )


def test_plugins(refusal: Any, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = shop(log={"plugin": "wal2json"})
    assert refused(refusal, content) == (
        "sources.shop.log.plugin: the plugin wal2json is not available yet in 0.1 — available: pgoutput"
    )
    monkeypatch.setattr(available, "AVAILABLE_PLUGINS", frozenset(Plugin))
    assert load(content).config.sources["shop"].log.plugin is Plugin.WAL2JSON


def test_a_shape_that_needs_the_log(refusal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "AVAILABLE_SHAPES", frozenset({Shape.LIVE, Shape.SOFT_DELETE}))
    assert refused(refusal, whole(sources={"shop": table(shape="soft_delete")})) == (
        "sources.shop.tables.public.orders.shape: the shape soft_delete is made from the log, which "
        "full_table does not read — write `method: log_based`, or `shape: live`"
    )


def test_one_line_makes_a_method_available(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "AVAILABLE_METHODS", frozenset(Method))
    settings = load(shop(method="log_based", select_all=True)).config.sources["shop"]
    assert settings.method is Method.LOG_BASED


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
