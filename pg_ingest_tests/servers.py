"""The PostgreSQL servers of other versions that the tests can use, as far as they are installed."""

from __future__ import annotations

import os
from pathlib import Path

WANTED = (10, 12, 14, 16)
"""Major versions that CI installs beside the wheel's own; see `.ci/servers`."""


def other_servers() -> dict[int, Path]:
    """Major version → folder with `initdb`, below $PG_INGEST_TEST_SERVERS."""
    folder = os.environ.get("PG_INGEST_TEST_SERVERS")
    if not folder:
        return {}
    found = {
        major: Path(folder) / "node_modules" / f"pg{major}" / "native" / "bin" for major in WANTED
    }
    missing = [
        str(major) for major, binaries in found.items() if not (binaries / "initdb").exists()
    ]
    if missing:
        raise FileNotFoundError(
            f"no PostgreSQL {', '.join(missing)} below {folder}: see .ci/servers"
        )
    return found


def describe() -> str:
    """One line for the header of the test run."""
    found = other_servers()
    if found:
        return f"PostgreSQL servers: 18 (wheel), {', '.join(map(str, found))}"
    return (
        "PostgreSQL servers: 18 (wheel); tests on "
        f"{', '.join(map(str, WANTED))} run after `.ci/servers DIR` with PG_INGEST_TEST_SERVERS=DIR"
    )
