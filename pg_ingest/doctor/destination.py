"""Our own side: can the destination be opened, read and written, and is there room for the change log?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pg_ingest.config.model import IngestConfig
from pg_ingest.destinations.connect import open_destination
from pg_ingest.doctor.finding import (
    Finding,
    Test,
    attempted,
    failed,
    passed,
    refused,
    skipped,
    warning,
)
from pg_ingest.errors import DestinationFailed

STATE = "state_dir"

LEAST_ROOM = 1 << 30
"""Bytes under which a disk counts as full soon: one load of a middling table."""


def check_destination(config: IngestConfig) -> Iterator[Finding]:
    """Whether the file and its folder may be written, and the file is one of ours or new."""
    path = config.destination.path
    refusal = _refusal(path)
    if refusal is not None:
        yield failed("destination", Test.WRITABLE, refusal)
        yield skipped("destination", Test.CONTENT, "because it may not be written")
        return
    fact = "exists and may be written" if path.exists() else "will be made by the first load"
    yield passed("destination", Test.WRITABLE, f"{path} {fact}")

    def content() -> str:
        return f"{len(open_destination(config.destination).status())} replicated tables"

    yield attempted("destination", Test.CONTENT, content)
    yield _room("destination", path, LEAST_ROOM)


def check_state(config: IngestConfig) -> Iterator[Finding]:
    """Whether `state_dir` may be written, and has room for the log that a source may hand over at once."""
    folder = _existing(config.state_dir)
    if not os.access(folder, os.W_OK):
        yield refused(
            STATE,
            Test.WRITABLE,
            f"{folder} may not be written",
            "give the user that runs this the right to write there, or choose another `state_dir`",
        )
        return
    yield passed(STATE, Test.WRITABLE, f"{config.state_dir} may be written")
    most = max((source.log.lag_warn for source in config.sources.values()), default=0)
    yield _room(STATE, config.state_dir, max(most, LEAST_ROOM))


def _room(subject: str, path: Path, wanted: int) -> Finding:
    free = shutil.disk_usage(_existing(path)).free
    fact = f"{free / 1e9:,.1f} GB free below {path}"
    if free >= wanted:
        return passed(subject, Test.DISK, fact)
    return warning(
        subject,
        Test.DISK,
        f"{fact}, less than {wanted / 1e9:,.1f} GB",
        "make room there, or choose another place: what is captured waits there for the destination",
    )


def _existing(path: Path) -> Path:
    return path if path.exists() else next(p for p in path.parents if p.exists())


def _refusal(path: Path) -> DestinationFailed | None:
    if path.is_dir():
        return DestinationFailed(
            f"{path} is a folder", hint="`destination.path` names the database file itself"
        )
    target = _existing(path)
    if os.access(target, os.W_OK):
        return None
    return DestinationFailed(
        f"{target} may not be written",
        hint="give the user that runs this the right to write there, or choose another path",
    )
