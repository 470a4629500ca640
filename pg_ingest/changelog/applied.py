"""What has been captured and not applied yet, as far as our side knows without asking a destination.

Nothing depends on it: what a table has applied is what its bookmark says. But a destination may be held by
somebody, or be down, and then most of all one wants to know how old the oldest waiting change is. So each
run leaves a note of how far each table came. A run that is killed before leaves it as it was: then more
seems to wait than does, never less.

`<change log>/applied.json`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from pg_ingest.changelog.durable import write_file
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.lsn import Lsn
from pg_ingest.table import TableId

_FILE = "applied.json"
_POSITIONS = TypeAdapter(dict[str, int])


@dataclass(frozen=True, slots=True)
class Waiting:
    """Changes in the log that tables have still to apply.

    Attributes:
        rows, bytes: of the segments that have such changes; part of a segment may be applied.
        oldest: seconds since 1970 when the oldest of these segments was captured, None without one.
        tables: whose they are.
    """

    rows: int = 0
    bytes: int = 0
    oldest: float | None = None
    tables: tuple[TableId, ...] = ()


def note_applied(changelog: ChangeLog, tables: Collection[TableId], position: Lsn) -> None:
    """Remember that these tables have applied everything that committed before `position`."""
    if tables and changelog.folder.is_dir():
        known = {**_read(changelog), **{str(table): int(position) for table in tables}}

        def fill(file: BinaryIO) -> None:
            file.write(_POSITIONS.dump_json(known))

        write_file(changelog.folder / _FILE, fill)


def waiting(changelog: ChangeLog, tables: Collection[TableId]) -> Waiting:
    """What these tables have still to apply; raises ChangeLogDamaged."""
    manifest = changelog.manifest()
    applied = _read(changelog)
    left = [
        segment
        for segment in (() if manifest is None else manifest.segments)
        if segment.table in tables and segment.last_lsn >= applied.get(str(segment.table), 0)
    ]
    return Waiting(
        rows=sum(segment.rows for segment in left),
        bytes=sum(segment.size for segment in left),
        oldest=min((segment.written_at for segment in left), default=None),
        tables=tuple(sorted({segment.table for segment in left})),
    )


def _read(changelog: ChangeLog) -> Mapping[str, int]:
    """By table; a file that cannot be read says nothing, and the next run writes it anew."""
    try:
        return _POSITIONS.validate_json((changelog.folder / _FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
