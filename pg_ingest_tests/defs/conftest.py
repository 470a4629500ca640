"""Configurations as text, and the definitions they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent

import dagster as dg
import pytest

from pg_ingest.config.load import LoadedConfig, load_config
from pg_ingest_tests.conftest import Database

Write = Callable[..., LoadedConfig]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration with one source `shop` and load it."""

    def write(source: str, *, host: str = "127.0.0.1", port: int = 1) -> LoadedConfig:
        path = tmp_path / "pg_ingest.yaml"
        head = f"""\
            destination: {{type: duckdb, path: warehouse.duckdb}}
            sources:
              shop:
                host: {host}
                port: {port}
                user: postgres
            """
        path.write_text(dedent(head) + indent(dedent(source), "    "))
        return load_config(path)

    return write


@pytest.fixture
def shop(database: Database, write: Write) -> Callable[[str], LoadedConfig]:
    """The same for the test's own database."""

    def shop(source: str) -> LoadedConfig:
        text = f"databases: [{database.name}]\n" + dedent(source)
        return write(text, host=database.host, port=database.port)

    return shop


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made
