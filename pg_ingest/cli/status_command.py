"""`pg-ingest status`: what the destination holds and when it came."""

from __future__ import annotations

from pathlib import Path

import click

from pg_ingest.bookmark import (
    FullTableBookmark,
    KeyBasedBookmark,
    LogBasedBookmark,
    SnapshotDiffBookmark,
    XminBookmark,
)
from pg_ingest.cli.options import config_option, json_option
from pg_ingest.cli.output import print_json, print_note, print_table
from pg_ingest.config.load import load_config
from pg_ingest.destinations.chunks import ChunkedLoad, KeepsChunks
from pg_ingest.destinations.destination import TableStatus
from pg_ingest.lsn import Lsn


@click.command("status", short_help="Show what the destination holds and when it came.")
@config_option
@json_option
def command(config_path: Path | None, as_json: bool) -> None:
    """Show each replicated table: rows, position, newest load. Asks only the destination."""
    from pg_ingest.destinations.connect import open_destination

    loaded = load_config(config_path)
    destination = open_destination(loaded.config.destination)
    found = destination.status()
    loads = destination.chunked_loads() if isinstance(destination, KeepsChunks) else []
    unfinished = {load.stream: load for load in loads}
    begun = [load for load in loads if load.stream not in {status.stream for status in found}]
    if as_json:
        known = [as_dict(status, unfinished.get(status.stream)) for status in found]
        print_json([*known, *map(first_load_as_dict, begun)])
        return
    if not found and not begun:
        print_note("nothing has been replicated yet: run `pg-ingest sync`")
        return
    columns = ("table", "database", "into", "rows", "position", "updated", "last load")
    print_table(
        str(loaded.config.destination.path),
        {name: "right" if name == "rows" else "left" for name in columns},
        [*(_row(status, unfinished.get(status.stream)) for status in found), *map(_first, begun)],
        spare=("position", "last load", "database"),
    )


def as_dict(status: TableStatus, unfinished: ChunkedLoad | None = None) -> dict[str, object]:
    """One table for programs."""
    from pg_ingest.bookmark import method_of

    stream = status.stream
    return {
        "source": stream.source,
        "database": stream.database,
        "table": f"{stream.schema}.{stream.table}",
        "target": str(status.target),
        "method": method_of(status.bookmark),
        "rows": status.rows,
        "position": position(status),
        "updated_at": status.updated_at,
        "last_load": status.last_load,
        "historical_load": None if unfinished is None else _load_as_dict(unfinished),
    }


def first_load_as_dict(load: ChunkedLoad) -> dict[str, object]:
    """A table that nobody can see yet, for programs."""
    stream = load.stream
    return {
        "source": stream.source,
        "database": stream.database,
        "table": f"{stream.schema}.{stream.table}",
        "target": str(load.target),
        "method": load.method,
        "rows": 0,
        "position": in_words(load),
        "updated_at": None,
        "last_load": {},
        "historical_load": _load_as_dict(load),
    }


def _load_as_dict(load: ChunkedLoad) -> dict[str, object]:
    return {
        "chunks": load.chunks,
        "done": len(load.done),
        "rows": load.rows,
        "bytes": load.bytes,
        "begun_at": load.begun_at,
    }


def in_words(load: ChunkedLoad) -> str:
    """How far a load in chunks is, for people."""
    if len(load.done) == load.chunks:
        return f"historical load: all {load.chunks} chunks stored, catching up"
    return f"historical load: chunk {len(load.done) + 1} of {load.chunks}"


def position(status: TableStatus) -> str:
    """Where the stream stands, for people."""
    match status.bookmark:
        case KeyBasedBookmark(column=column, position=reached):
            return f"{column} = {reached or 'none yet'}"
        case LogBasedBookmark(lsn=lsn, joined_lsn=joined):
            applied = Lsn.parse(lsn) > Lsn.parse(joined)
            return f"log applied up to {lsn}" if applied else f"snapshot at {joined}"
        case XminBookmark(xmin=xmin):
            return f"transactions below {xmin}"
        case FullTableBookmark(snapshot_at=moment) | SnapshotDiffBookmark(snapshot_at=moment):
            return f"snapshot at {moment}"


def _first(load: ChunkedLoad) -> list[str]:
    stream = load.stream
    return [
        f"{stream.schema}.{stream.table}",
        stream.database,
        str(load.target),
        "0",
        in_words(load),
        "",
        f"begun {load.begun_at}, {load.rows:,} rows stored",
    ]


def _row(status: TableStatus, unfinished: ChunkedLoad | None) -> list[str]:
    last = status.last_load
    what = [
        f"{last[name]:,} {name}" for name in ("inserted", "updated", "deleted") if last.get(name)
    ]
    return [
        f"{status.stream.schema}.{status.stream.table}",
        status.stream.database,
        str(status.target),
        f"{status.rows:,}",
        position(status),
        status.updated_at,
        ", ".join(what) or "nothing new" if unfinished is None else in_words(unfinished),
    ]
