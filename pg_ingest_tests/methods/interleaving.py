"""Sessions that write while a table is read, and a place between any two steps of the reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import psycopg
import pytest

from pg_ingest_tests.conftest import Database


@dataclass
class Transactions:
    """One session: it begins, commits, rolls back, prepares; what it cannot do now it leaves."""

    number: int
    connection: psycopg.Connection
    database: Database
    open: bool = False
    prepared: bool = False

    @property
    def gid(self) -> str:
        return f"{self.database.name}_{self.number}"

    def act(self, action: str) -> None:
        match action:
            case "begin" if not self.open and not self.prepared:
                self.connection.execute("begin")
                self.open = True
            case "commit" | "rollback" if self.prepared:
                self.connection.execute(f"{action} prepared '{self.gid}'")
                self.prepared = False
            case "commit" | "rollback" if self.open:
                self.connection.execute(action)
                self.open = False
            case "prepare" if self.open:
                self.connection.execute(f"prepare transaction '{self.gid}'")
                self.open, self.prepared = False, True


@contextmanager
def before_each(
    steps: Sequence[tuple[ModuleType, str]], do: Callable[[], None]
) -> Iterator[pytest.MonkeyPatch]:
    """Whenever one of these functions is called, `do` comes first."""

    def preceded(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            do()
            return step(*arguments, **options)

        return stepped

    with pytest.MonkeyPatch.context() as patch:
        for module, name in steps:
            patch.setattr(module, name, preceded(getattr(module, name)))
        yield patch
