"""`pg-ingest sync`: replicate now, in this process, through Dagster."""

from __future__ import annotations

from pathlib import Path

import click

from pg_ingest.cli.options import config_option, databases_option, json_option
from pg_ingest.cli.syncing import Request, sync

_WINDOW = "Windowed tables: this window, or first...last. Default: those due."


@click.command("sync", short_help="Replicate sources or tables now.")
@click.argument("names", nargs=-1, metavar="[SOURCE|TABLE]...")
@config_option
@databases_option
@click.option("-w", "--window", "window", metavar="KEY[...KEY]", help=_WINDOW)
@json_option
@click.pass_context
def command(
    context: click.Context,
    names: tuple[str, ...],
    config_path: Path | None,
    databases: tuple[str, ...],
    window: str | None,
    as_json: bool,
) -> None:
    """Replicate everything, or the sources and tables that are named.

    A table is named `public.orders` or `shop/public/orders`; `public.o*` means several. One table that
    fails does not stop the others; the end says which failed and why, with exit code 1. Windowed
    tables get the windows that were never loaded, and the two newest.
    """
    verbose = bool(context.find_root().params.get("verbose"))
    request = Request(config_path, names, databases, window, as_json=as_json, verbose=verbose)
    context.exit(sync(request))
