"""`pg-ingest demo`: a PostgreSQL, a shop in it, and its replication, all made for the occasion."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo", short_help="See it work on a server made for the occasion.")
@click.option("--once", is_flag=True, help="Sync, change data, sync again, compare, and exit.")
@click.option("--port", type=int, help="Port of the UI; default: 3000, or a free one.")
@click.option("--rows", type=click.IntRange(min=1), help="Rows of the largest table.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Work in this folder and leave it there; default: a temporary one.",
)
@click.pass_context
def command(
    context: click.Context, once: bool, port: int | None, rows: int | None, keep: Path | None
) -> None:
    """Start an embedded PostgreSQL with a busy shop, replicate it into DuckDB, open Dagster's UI.

    With --once: one complete sync, changes, a second sync, and a comparison row by row; exit code 0
    only when source and destination are equal. Ctrl-C leaves nothing running.
    """
    from pg_ingest.demo.run import ROWS, main

    context.exit(main(once=once, port=port, rows=ROWS if rows is None else rows, keep=keep))
