"""A configuration file from a few changed keys, and what loading it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pg_ingest.config.load import LoadedConfig, load_config
from pg_ingest.errors import ConfigError


def source(**changes: Any) -> dict[str, Any]:
    """A source that is right; `changes` replace its keys, None removes one."""
    keys = {
        "host": "db",
        "user": "reader",
        "databases": ["shop"],
        "method": "full_table",
        "tables": {"public.orders": {}},
        **changes,
    }
    return {key: value for key, value in keys.items() if value is not None}


def table(**settings: Any) -> dict[str, Any]:
    """A source with the one table `public.orders` of these settings."""
    return source(tables={"public.orders": settings})


def whole(*, sources: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A whole configuration that is right but for the changes."""
    keys = {
        "destination": {"type": "duckdb", "path": "w.duckdb"},
        "sources": {"shop": source()} if sources is None else sources,
        **changes,
    }
    return {key: value for key, value in keys.items() if value is not None}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | dict[str, Any]], Path]:
    def written(content: str | dict[str, Any]) -> Path:
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path = tmp_path / "pg_ingest.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture
def load(write: Callable[[str | dict[str, Any]], Path]) -> Callable[..., LoadedConfig]:
    return lambda content: load_config(write(content))


@pytest.fixture
def refusal(write: Callable[[str | dict[str, Any]], Path]) -> Callable[..., list[str]]:
    """The problems of a configuration, one text each, without the file's folder."""

    def told(content: str | dict[str, Any]) -> list[str]:
        path = write(content)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        lines = caught.value.detail.strip().splitlines()
        return [line.strip().replace(str(path), path.name) for line in lines]

    return told
