"""A process that kills itself directly before or after the n-th call of a function, and who runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any

from pg_ingest_tests.conftest import Database


def arm(owner: Any, name: str, when: str, number: int) -> None:
    """In the process that is to die; `when` is `before` or `after`."""
    real = getattr(owner, name)
    left = [number]

    def counted(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0] and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if not left[0] and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def run_killed(module: ModuleType, arguments: list[str], database: Database) -> str:
    """Run the module until it dies; wait until the server knows that it is dead. What it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", module.__name__, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with database.connect() as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and application_name like 'pg_ingest/%'"
        )
    return done.stdout
