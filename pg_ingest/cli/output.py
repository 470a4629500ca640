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


def print_table(
    title: str, columns: dict[str, str], rows: list[list[str]], spare: tuple[str, ...] = ()
) -> None:
    """A table on standard output. `columns`: heading to `left` or `right`.

    A file or a pipe gets it as wide as it is; a narrow terminal loses the columns of `spare`, one after
    the other, until the rest fits.
    """
    terminal = Console(force_terminal=sys.stdout.isatty(), highlight=False)
    wide = Console(file=io.StringIO(), width=1000)
    headings = list(columns)
    for unwanted in ("", *spare):
        headings = [heading for heading in headings if heading != unwanted]
        table = _table(title, {heading: columns[heading] for heading in headings})
        for row in rows:
            cells = dict(zip(columns, row, strict=True))
            table.add_row(*(cells[heading] for heading in headings))
        width = wide.measure(table).maximum
        if width <= terminal.width or not sys.stdout.isatty():
            break
    if not sys.stdout.isatty():
        terminal = Console(width=max(width, len(title), 20), highlight=False)
    with terminal.capture() as drawn:
        terminal.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().rstrip().splitlines()))


def _table(title: str, columns: dict[str, str]) -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for heading, side in columns.items():
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
    return table


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
