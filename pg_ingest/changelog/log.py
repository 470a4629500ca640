"""The change log of one source database: a folder with a manifest and its segments.

`<state_dir>/changelog/<source>/<database>/manifest.json` names every segment that counts; what it does
not name does not exist. Segments are durable before the manifest names them, and the manifest is
replaced at once, so a reader, or a process that starts after a crash, sees a capture whole or not at all.

Only who holds the slot's lock (`postgres.slot.locked_slot`) may change the log; anybody may read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import polars as pl

from pg_ingest.changelog import manifest as manifests
from pg_ingest.changelog.durable import make_folder, sync_folder, write_file
from pg_ingest.changelog.manifest import Manifest, Segment
from pg_ingest.changelog.segments import read_segment
from pg_ingest.decode.messages import SYSTEM_COLUMNS, Relation
from pg_ingest.errors import ChangeLogDamaged
from pg_ingest.lsn import Lsn
from pg_ingest.table import TableId

_MANIFEST = "manifest.json"
_SEGMENTS = "segments"

NO_CHANGES = pl.Schema(
    zip(
        SYSTEM_COLUMNS,
        (pl.Int64(), pl.Int64(), pl.Int64(), pl.String(), pl.Boolean(), pl.List(pl.String())),
        strict=True,
    )
)

Place = tuple[int, int]
"""A change's place in the log: its commit LSN and its sequence in the transaction."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A table's changes while it had one shape; `rows` as in `decode.messages.Changes`.

    `size` is in bytes of the log's files.
    """

    relation: Relation
    rows: pl.DataFrame
    size: int


@dataclass(frozen=True, slots=True)
class ChangeLog:
    """The log of one database of one source below `state_dir`; it need not exist yet."""

    state_dir: Path
    source: str
    database: str

    @property
    def folder(self) -> Path:
        """Where it is. Names that no folder can have are escaped."""
        database = quote(self.database, safe="").replace(".", "%2E")
        return self.state_dir / "changelog" / self.source / database

    @property
    def segment_folder(self) -> Path:
        """Where its segments are."""
        return self.folder / _SEGMENTS

    def manifest(self) -> Manifest | None:
        """What it holds, None before the first capture; raises ChangeLogDamaged."""
        path = self.folder / _MANIFEST
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        found = manifests.load(text, path)
        if (found.source, found.database) != (self.source, self.database):
            raise ChangeLogDamaged(
                f"the change log of {self.source}/{self.database} is that of"
                f" {found.source}/{found.database}",
                detail=str(path),
                hint="was the folder copied? give each configuration its own state_dir",
            )
        return found

    def commit(self, manifest: Manifest) -> None:
        """Make the segments' names durable, and then the manifest that names them."""
        make_folder(self.segment_folder)
        sync_folder(self.segment_folder)

        def fill(file: BinaryIO) -> None:
            file.write(manifests.dump(manifest))

        write_file(self.folder / _MANIFEST, fill)
        sync_folder(self.folder)

    def recorded(self, table: TableId, after: Place = (0, -1)) -> Iterator[Recorded]:
        """The table's changes behind a place, a segment at a time; raises ChangeLogDamaged."""
        manifest = self.manifest()
        for segment in () if manifest is None else manifest.of_table(table):
            if (segment.last_lsn, segment.last_sequence) > after:
                relation, changes = read_segment(self.segment_folder, segment)
                rows = pl.DataFrame(changes)
                del changes
                if segment.first_lsn <= after[0]:
                    rows = rows.filter(
                        (pl.col("_pgi_lsn") > after[0])
                        | ((pl.col("_pgi_lsn") == after[0]) & (pl.col("_pgi_sequence") > after[1]))
                    )
                yield Recorded(relation, rows, segment.size)

    def changes(self, table: TableId, after: Lsn | None = None) -> pl.DataFrame:
        """The table's changes as one frame, those that committed behind `after`.

        Columns: see `decode.messages.Changes`; a column that was added or dropped in between is null
        in the rows without it. Raises ChangeLogDamaged.
        """
        # a sequence that no transaction reaches: all of the transaction at `after` is left out
        place = (0, -1) if after is None else (int(after), 1 << 62)
        frames = [recorded.rows for recorded in self.recorded(table, place)]
        return pl.concat([pl.DataFrame(schema=NO_CHANGES), *frames], how="diagonal")

    def sweep(self) -> None:
        """Remove what a killed process left behind: files that the manifest does not name."""
        manifest = self.manifest()
        named = {s.file for s in manifest.segments} if manifest is not None else set()
        if self.segment_folder.is_dir():
            for path in self.segment_folder.iterdir():
                if path.name not in named:
                    path.unlink()

    def retain(
        self, applied: Mapping[TableId, Place], *, since: float, max_bytes: int | None = None
    ) -> tuple[Segment, ...]:
        """Remove segments that every destination has applied and that need not be kept; return them.

        Args:
            applied: per table the last change that *every* destination has applied. Nothing behind it
                is removed, and nothing of a table that is not in here.
            since: segments written before (seconds since 1970) go.
            max_bytes: the oldest go until no more than this is left, as far as `applied` allows.
        """
        manifest = self.manifest()
        if manifest is None:
            return ()
        left = manifest.size
        gone: list[Segment] = []
        for segment in sorted(manifest.segments, key=lambda one: one.written_at):
            done = (segment.last_lsn, segment.last_sequence) <= applied.get(segment.table, (0, -1))
            over = max_bytes is not None and left > max_bytes
            if done and (segment.written_at < since or over):
                gone.append(segment)
                left -= segment.size
        if gone:
            self.commit(manifest.without(frozenset(segment.file for segment in gone)))
            for segment in gone:
                (self.segment_folder / segment.file).unlink(missing_ok=True)
        return tuple(gone)
