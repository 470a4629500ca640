"""What the change log of one database holds: the one file whose replacement commits a capture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pg_ingest.decode.messages import Layout
from pg_ingest.errors import ChangeLogDamaged
from pg_ingest.lsn import Lsn
from pg_ingest.table import TableId

FORMAT = 1
"""Raised whenever an old manifest can no longer be read as it is."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A durable piece of the log: changes of one table while it had one shape.

    Attributes:
        file: its name.
        oid: of the table.
        first_lsn, last_lsn, last_sequence: commit LSNs of its first and last change, and the last one's
            place within its transaction.
        size: bytes of the file, crc32: of its contents.
        written_at: seconds since 1970.
    """

    file: str
    table: TableId
    oid: int
    first_lsn: int
    last_lsn: int
    last_sequence: int
    rows: int
    size: int
    crc32: int
    written_at: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole log.

    Attributes:
        system_identifier: of the server, slot: the slot it is read from.
        begin: nothing that committed before is in here.
        position: everything that committed between `begin` and here has been captured.
        captured_at: seconds since 1970 of the last capture.
        next_number: of the next segment.
        segments: oldest first; per table in the order of the log.
        layouts: what wal2json listed of each relation last, by its oid.
        timeline: the server's at the last capture, 0 where that is not known.
        timeline_ends: where those before it were left, by their numbers.
    """

    source: str
    database: str
    slot: str
    system_identifier: int
    begin: int
    position: int
    captured_at: float
    next_number: int = 0
    segments: tuple[Segment, ...] = ()
    format: int = FORMAT
    layouts: dict[int, Layout] = field(default_factory=dict)
    timeline: int = 0
    timeline_ends: dict[int, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    def of_table(self, table: TableId) -> tuple[Segment, ...]:
        """The segments of that table, in the order of the log."""
        return tuple(segment for segment in self.segments if segment.table == table)

    def extended(
        self,
        segments: tuple[Segment, ...],
        position: Lsn,
        now: float,
        layouts: Mapping[int, Layout] = MappingProxyType({}),
    ) -> Manifest:
        """With more segments, captured up to `position`."""
        return replace(
            self,
            segments=self.segments + segments,
            position=int(position),
            captured_at=now,
            layouts=dict(layouts),
            next_number=self.next_number + len(segments),
        )

    def without(self, segments: frozenset[str]) -> Manifest:
        """Without the segments of these files."""
        return replace(self, segments=tuple(s for s in self.segments if s.file not in segments))


_MANIFEST = TypeAdapter(Manifest)


def dump(manifest: Manifest) -> bytes:
    """As JSON."""
    return _MANIFEST.dump_json(manifest)


def load(text: bytes, where: Any) -> Manifest:
    """Read what `dump` wrote; raise ChangeLogDamaged for anything else."""
    try:
        manifest = _MANIFEST.validate_json(text)
    except ValidationError as error:
        raise ChangeLogDamaged(
            "the manifest of a change log cannot be read",
            detail=f"{where}: {error.error_count()} problems, the first at"
            f" {'.'.join(map(str, error.errors()[0]['loc'])) or 'its start'}",
            hint="restore the folder from a backup, or remove it, drop the slot and reset the tables",
        ) from None
    if manifest.format != FORMAT:
        raise ChangeLogDamaged(
            f"the change log has format {manifest.format}, this version reads {FORMAT}",
            detail=str(where),
            hint="use the version that wrote it",
        )
    return manifest
