"""Segments as files: Arrow IPC, compressed, checked by a checksum whenever they are read.

Values are the texts that the server sent, so nothing is lost in here whatever a destination makes of
them, and another destination can be filled later.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from pg_ingest.changelog.durable import write_file
from pg_ingest.changelog.manifest import Segment
from pg_ingest.decode.messages import Relation, RelationColumn
from pg_ingest.errors import ChangeLogDamaged
from pg_ingest.lsn import Lsn
from pg_ingest.table import ReplicaIdentity, TableId

_RELATION = b"pg_ingest.relation"
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")
_RESTORE = "restore it from a backup, or remove the change log, drop the slot and reset the tables"


def write_segment(
    folder: Path, number: int, relation: Relation, batches: Sequence[pa.RecordBatch]
) -> Segment:
    """Write a segment durably except for its name, which `durable.sync_folder` makes durable.

    `batches` are `decode.messages.Changes.rows` of `relation`, in the order of the log.
    """
    first_lsn = batches[0].column("_pgi_lsn")[0].as_py()
    last_lsn = batches[-1].column("_pgi_lsn")[-1].as_py()
    name = f"{first_lsn:016X}-{last_lsn:016X}-{relation.oid}-{number}.arrow"
    schema = batches[0].schema.with_metadata({_RELATION: _dump(relation)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=_OPTIONS) as writer:
        for batch in batches:
            writer.write_batch(batch)
    contents = sink.getvalue()

    def fill(file: BinaryIO) -> None:
        file.write(contents)

    write_file(folder / name, fill)
    return Segment(
        file=name,
        table=relation.id,
        oid=relation.oid,
        first_lsn=first_lsn,
        last_lsn=last_lsn,
        last_sequence=batches[-1].column("_pgi_sequence")[-1].as_py(),
        rows=sum(batch.num_rows for batch in batches),
        size=contents.size,
        crc32=zlib.crc32(contents),
        written_at=time.time(),
    )


def read_segment(folder: Path, segment: Segment) -> tuple[Relation, pa.Table]:
    """The table's shape and the changes; raises ChangeLogDamaged, naming the file."""
    path = folder / segment.file
    try:
        contents = path.read_bytes()
    except FileNotFoundError:
        raise ChangeLogDamaged(
            f"a segment of the change log is missing: {segment.file}",
            detail=f"{path}: changes of {segment.table} from {Lsn(segment.first_lsn)} to"
            f" {Lsn(segment.last_lsn)}",
            hint=_RESTORE,
        ) from None
    if len(contents) != segment.size or zlib.crc32(contents) != segment.crc32:
        raise ChangeLogDamaged(
            f"a segment of the change log is damaged: {segment.file}",
            detail=f"{path}: {len(contents)} bytes instead of {segment.size}, or another checksum;"
            f" changes of {segment.table} from {Lsn(segment.first_lsn)} to {Lsn(segment.last_lsn)}",
            hint=_RESTORE,
        )
    with pa.ipc.open_file(pa.py_buffer(contents)) as reader:
        table = reader.read_all()
    return _load(table.schema.metadata[_RELATION]), table.replace_schema_metadata(None)


def _dump(relation: Relation) -> bytes:
    return json.dumps(asdict(relation)).encode()


def _load(text: bytes) -> Relation:
    fields = json.loads(text)
    return Relation(
        oid=fields["oid"],
        id=TableId(**fields["id"]),
        identity=ReplicaIdentity(fields["identity"]),
        columns=tuple(RelationColumn(**column) for column in fields["columns"]),
    )
