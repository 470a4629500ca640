"""Paths in the configuration: relative ones start at the folder of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo

from pg_ingest.config.available import available, not_yet
from pg_ingest.config.problem import refuse


def resolved(text: str | Path, info: ValidationInfo) -> Path:
    """The path, absolute when the validation knows the folder (`context={"folder": …}`)."""
    path = Path(text).expanduser()
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path


def _local(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Path):
        return resolved(value, info)
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise refuse("is empty", "write a path")
    if value == ":memory:":
        raise refuse("would be forgotten at the end of the run", "write the path of a file")
    if "://" in value or value.startswith("md:"):
        place = value.split(":", 1)[0]
        raise refuse(not_yet(f"a place in {place}"), available(["a path on this machine"]))
    return resolved(value, info)


LocalPath = Annotated[Path, BeforeValidator(_local)]
"""A file or folder of this machine."""


def _certificate(value: Any, info: ValidationInfo) -> Any:
    return value if value == "system" else _local(value, info)


CertificatePath = Annotated[Path, BeforeValidator(_certificate)]
"""A certificate file; libpq's word `system` (the certificates of the machine) stays as it is."""
