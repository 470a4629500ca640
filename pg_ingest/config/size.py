"""Sizes in bytes, written as PostgreSQL writes them in its own settings."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from pg_ingest.config.problem import refuse

_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_TEXT = re.compile(r"([0-9]+) ?(B|kB|MB|GB|TB)")


def _size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refuse("is not a size", "write a number and a unit: 256MB (B, kB, MB, GB, TB)")
    return int(match[1]) * _UNITS[match[2]]


Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+ ?(B|kB|MB|GB|TB)$"}),
]
"""Bytes: `256MB` in the file. Units are powers of 1024 (manual, "Setting Parameters")."""
