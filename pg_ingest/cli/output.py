"""What the terminal shows: errors, tables, JSON.

Results go to standard output, everything else to standard error. Progress is written to a duplicate of
standard error, because Dagster redirects the original while a step runs.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pg_ingest.errors import PgIngestError


def print_error(error: PgIngestError) -> None:
    """Message, detail and hint; no traceback."""
    click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)


def print_note(text: str) -> None:
    """A line for people that is no result."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output; what JSON lacks becomes text."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(title: str, columns: dict[str, str], rows: list[list[str]]) -> None:
    """A table on standard output. `columns`: heading to `left` or `right`.

    Wide enough for its content where the output is a file or a pipe.
    """
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for heading, side in columns.items():
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    screen = Console(file=io.StringIO(), width=None if sys.stdout.isatty() else 1000)
    width = screen.measure(table).maximum
    screen = Console(
        width=max(width, 20) if not sys.stdout.isatty() else None,
        force_terminal=sys.stdout.isatty(),
        highlight=False,
    )
    with screen.capture() as drawn:
        screen.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().rstrip().splitlines()))


@contextmanager
def progress_console() -> Iterator[Console]:
    """A console on standard error as it is now, whatever is done to the descriptor in the block."""
    try:
        copy = os.dup(sys.stderr.fileno())
    except (OSError, io.UnsupportedOperation):
        yield Console(file=sys.stderr, highlight=False)
        return
    with os.fdopen(copy, "w", encoding="utf-8", errors="replace") as stream:
        yield Console(file=stream, highlight=False)
