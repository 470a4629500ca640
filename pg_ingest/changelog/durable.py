"""Files that are complete or absent, also after the power fails.

A file is written under a temporary name, synced and renamed; then its folder is synced, because the new
name itself is data of the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pg_ingest.errors import ConfigError

TEMPORARY = ".tmp"
"""The suffix of files that are not complete; left behind by a process that was killed."""


def write_file(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Let `fill` write the contents of `path`, replacing what was there. Follow it by `sync_folder`."""
    beside = path.with_name(path.name + TEMPORARY)
    with _told(path):
        with beside.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    with _told(folder):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """Create the folder and its parents durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with _told(folder):
            folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            "the change log cannot be written",
            detail=f"{path}: {error.strerror or type(error).__name__}",
            hint="make state_dir writable for this user, with free space; nothing was lost: the slot keeps"
            " what is not durable here",
        ) from error
