"""The discovered catalogue of a source, kept below `state_dir` so that code loads without a connection.

One JSON file per source, `catalog/<source>.json`. It is written beside the old one, synced and renamed:
a reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pg_ingest.errors import ConfigError
from pg_ingest.table import SourceCatalog

FORMAT = 1
"""Raised whenever an old file can no longer be read as it is."""


@dataclass(frozen=True, slots=True)
class _Saved:
    """What the file holds."""

    format: int
    catalog: SourceCatalog


_SAVED = TypeAdapter(_Saved)


def catalog_path(state_dir: Path, source: str) -> Path:
    """Where the catalogue of that source is kept."""
    return state_dir / "catalog" / f"{source}.json"


def save_catalog(state_dir: Path, catalog: SourceCatalog) -> Path:
    """Replace the saved catalogue at once and durably; return its path.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = catalog_path(state_dir, catalog.source)
    text = _SAVED.dump_json(_Saved(FORMAT, catalog))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as error:
        raise ConfigError(
            f"the catalogue of {catalog.source} cannot be saved",
            detail=f"{path}: {error.strerror or type(error).__name__}",
            hint="make state_dir writable for this user, with free space",
        ) from error
    return path


def _replace(path: Path, text: bytes) -> None:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_catalog(state_dir: Path, source: str) -> SourceCatalog | None:
    """The saved catalogue, None when the source was never discovered.

    Raises:
        ConfigError: the file cannot be read, is damaged, or is of another format.
    """
    path = catalog_path(state_dir, source)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, source, error.strerror or type(error).__name__) from None
    try:
        saved = _SAVED.validate_json(text)
    except ValidationError as error:
        raise _damaged(path, source, _reason(text, error)) from None
    if saved.format != FORMAT:
        raise _damaged(path, source, _other_format(saved.format))
    if saved.catalog.source != source:
        raise _damaged(path, source, f"it is the catalogue of {saved.catalog.source}")
    return saved.catalog


def _reason(text: bytes, error: ValidationError) -> str:
    """Why the file cannot be understood: not JSON, another format, or values that do not fit."""
    try:
        fields: Any = json.loads(text)
    except ValueError:
        return "it is not JSON"
    found = fields.get("format") if isinstance(fields, dict) else None
    if found != FORMAT:
        return _other_format(found)
    return f"{error.error_count()} of its values do not fit"


def _other_format(found: object) -> str:
    return f"its format is {found}, this version reads {FORMAT}"


def _damaged(path: Path, source: str, why: str) -> ConfigError:
    return ConfigError(
        f"the saved catalogue of {source} cannot be used",
        detail=f"{path}: {why}",
        hint="run `pg-ingest discover`: it writes the file anew",
    )
