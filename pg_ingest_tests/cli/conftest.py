"""`pg-ingest` in a folder of its own, against the test's own database."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from pg_ingest.cli import main
from pg_ingest_tests.conftest import Database


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Project:
    """A folder with a configuration of one source, `shop`."""

    folder: Path
    database: Database

    def configure(self, source: str, **server: Any) -> None:
        server = {
            "host": self.database.host,
            "port": self.database.port,
            "user": self.database.user,
            "databases": f"[{self.database.name}]",
            **server,
        }
        lines = [f"{key}: {value}" for key, value in server.items()]
        text = "\n".join([*lines, dedent(source)])
        head = "destination: {type: duckdb, path: warehouse.duckdb}\nsources:\n  shop:\n"
        (self.folder / "pg_ingest.yaml").write_text(head + indent(text, "    "))

    def run(self, *arguments: str) -> Answer:
        result = CliRunner().invoke(main, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def stored(self, query: str) -> list[tuple[Any, ...]]:
        path = str(self.folder / "warehouse.duckdb")
        with closing(duckdb.connect(path, read_only=True)) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def project(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    for name in ("DAGSTER_HOME", "PG_INGEST_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path, database)


@pytest.fixture
def orders(database: Database) -> None:
    """A table `orders` with three rows."""
    database.execute("create table orders (id int primary key, name text)")
    database.execute("insert into orders select n, 'x' || n from generate_series(1, 3) n")
