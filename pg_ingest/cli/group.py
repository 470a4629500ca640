"""`pg-ingest`: the group of commands, and how errors leave it.

Exit codes: 0 all is well, 1 there are findings (a table failed, a check failed), 2 wrong use (options,
or a configuration that does not load).
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import click
from dotenv import load_dotenv

from pg_ingest import __version__
from pg_ingest.cli.output import print_error
from pg_ingest.errors import ConfigError, PgIngestError

FINDINGS = 1
WRONG_USE = 2

COMMANDS = {
    "check": "Test connections, grants, tables and the destination; all findings at once.",
    "demo": "Start a PostgreSQL, fill it, replicate it and watch.",
    "dev": "Open Dagster's UI with this configuration.",
    "discover": "Look at the sources and save what is there.",
    "reset": "Reload tables from scratch; old rows stay visible until the new ones are in.",
    "setup-sql": "Print the script that an administrator runs so that a source can be read.",
    "status": "Show what the destination holds and when it came.",
    "sync": "Replicate sources or tables now.",
}


class Commands(click.Group):
    """Commands by name; errors raised on purpose become a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pg_ingest.cli.{cmd_name.replace('-', '_')}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PgIngestError as error:
            if ctx.params.get("verbose"):
                raise
            print_error(error)
            ctx.exit(WRONG_USE if isinstance(error, ConfigError) else FINDINGS)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pg-ingest")
@click.option("-v", "--verbose", is_flag=True, help="Log more, and show tracebacks.")
def main(verbose: bool) -> None:
    """Replicate PostgreSQL into an analytical store."""
    load_dotenv(Path(".env"))
    logging.basicConfig(
        level=logging.INFO if verbose else logging.ERROR,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    if not verbose:  # a wait for the file looks like a program that hangs
        logging.getLogger("pg_ingest.destinations").setLevel(logging.WARNING)
