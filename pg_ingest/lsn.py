"""A position in the write-ahead log."""

from __future__ import annotations

import re
from typing import Self

_TEXT = re.compile(r"\A([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")


class Lsn(int):
    """Byte offset in the write-ahead log; prints as PostgreSQL's `pg_lsn` does (`16/B374D848`).

    Source of the form: `pg_lsn_out` in src/backend/utils/adt/pg_lsn.c.
    """

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `16/B374D848`; raise ValueError for anything else."""
        match = _TEXT.match(text)
        if match is None:
            raise ValueError(f"not a WAL position: {text!r} (expected e.g. 16/B374D848)")
        return cls((int(match[1], 16) << 32) | int(match[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"
