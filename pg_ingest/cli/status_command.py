"""`pg-ingest status`: what the destination holds and when it came."""

from __future__ import annotations

from pathlib import Path

import click

from pg_ingest.bookmark import FullTableBookmark, KeyBasedBookmark, LogBasedBookmark
from pg_ingest.cli.options import config_option, json_option
from pg_ingest.cli.output import print_json, print_note, print_table
from pg_ingest.config.load import load_config
from pg_ingest.destinations.destination import TableStatus
from pg_ingest.lsn import Lsn


@click.command("status", short_help="Show what the destination holds and when it came.")
@config_option
@json_option
def command(config_path: Path | None, as_json: bool) -> None:
    """Show each replicated table: rows, position, newest load. Asks only the destination."""
    from pg_ingest.destinations.connect import open_destination

    loaded = load_config(config_path)
    found = open_destination(loaded.config.destination).status()
    if as_json:
        print_json([as_dict(status) for status in found])
        return
    if not found:
        print_note("nothing has been replicated yet: run `pg-ingest sync`")
        return
    columns = ("table", "database", "into", "rows", "position", "updated", "last load")
    print_table(
        str(loaded.config.destination.path),
        {name: "right" if name == "rows" else "left" for name in columns},
        [_row(status) for status in found],
        spare=("position", "last load", "database"),
    )


def as_dict(status: TableStatus) -> dict[str, object]:
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
    }


def position(status: TableStatus) -> str:
    """Where the stream stands, for people."""
    match status.bookmark:
        case KeyBasedBookmark(column=column, position=reached):
            return f"{column} = {reached or 'none yet'}"
        case LogBasedBookmark(lsn=lsn, joined_lsn=joined):
            applied = Lsn.parse(lsn) > Lsn.parse(joined)
            return f"log applied up to {lsn}" if applied else f"snapshot at {joined}"
        case FullTableBookmark(snapshot_at=moment):
            return f"snapshot at {moment}"


def _row(status: TableStatus) -> list[str]:
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
        ", ".join(what) or "nothing new",
    ]
