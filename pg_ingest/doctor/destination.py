"""The destination: can it be opened, read and written?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pg_ingest.config.model import IngestConfig
from pg_ingest.destinations.connect import open_destination
from pg_ingest.doctor.finding import Finding, failed, passed
from pg_ingest.errors import DestinationFailed, PgIngestError


def check_destination(config: IngestConfig) -> Iterator[Finding]:
    """Whether the file and its folder may be written, and the file is one of ours or new."""
    path = config.destination.path
    refused = _refusal(path)
    if refused is not None:
        yield failed("destination", "writable", refused)
        return
    fact = "exists and may be written" if path.exists() else "will be made by the first load"
    yield passed("destination", "writable", f"{path} {fact}")
    try:
        streams = open_destination(config.destination).status()
    except PgIngestError as error:
        yield failed("destination", "content", error)
        return
    yield passed("destination", "content", f"{len(streams)} replicated tables")


def _refusal(path: Path) -> DestinationFailed | None:
    if path.is_dir():
        return DestinationFailed(
            f"{path} is a folder", hint="`destination.path` names the database file itself"
        )
    target = path if path.exists() else next(p for p in path.parents if p.exists())
    if os.access(target, os.W_OK):
        return None
    return DestinationFailed(
        f"{target} may not be written",
        hint="give the user that runs this the right to write there, or choose another path",
    )
