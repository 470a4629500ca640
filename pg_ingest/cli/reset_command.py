"""`pg-ingest reset TABLE`: reload from scratch, without a moment in which rows are missing."""

from __future__ import annotations

from pathlib import Path

import click

from pg_ingest.cli.options import config_option, databases_option, json_option
from pg_ingest.cli.syncing import Request, sync


@click.command("reset", short_help="Reload tables from scratch.")
@click.argument("names", nargs=-1, required=True, metavar="TABLE...")
@config_option
@databases_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    names: tuple[str, ...],
    config_path: Path | None,
    databases: tuple[str, ...],
    as_json: bool,
) -> None:
    """Reload tables from scratch: the whole table is read beside the old rows, then swapped at once.

    The old rows stay visible until then, and stay for good if the reload fails. The same is
    `reset: true` in the run configuration of an asset in Dagster's launchpad.
    """
    verbose = bool(context.find_root().params.get("verbose"))
    request = Request(
        config_path, names, databases, None, reset=True, as_json=as_json, verbose=verbose
    )
    context.exit(sync(request))
