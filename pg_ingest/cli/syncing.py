"""What `sync` and `reset` share: load, choose, run, tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from pg_ingest.cli.discover_command import readable
from pg_ingest.cli.instance import open_instance
from pg_ingest.cli.outcomes import ABSENT, DONE, FAILED, Outcome, nowhere
from pg_ingest.cli.output import print_error, print_json, print_note, print_table, progress_console
from pg_ingest.cli.targets import Chosen, check_databases, choose
from pg_ingest.config.load import LoadedConfig
from pg_ingest.config.selection import Selection, select_sources
from pg_ingest.errors import PgIngestError
from pg_ingest.table import SourceCatalog

if TYPE_CHECKING:
    from pg_ingest.cli.runs import Runner, Wanted


@dataclass(frozen=True, slots=True)
class Request:
    """The command line as it was typed."""

    config_path: Path | None
    names: tuple[str, ...]
    databases: tuple[str, ...]
    window: str | None
    reset: bool = False
    as_json: bool = False
    verbose: bool = False

    @property
    def windows(self) -> tuple[str, str] | None:
        """First and last window of `--window`, None without it."""
        if self.window is None:
            return None
        first, dots, last = self.window.partition("...")
        return (first, last) if dots else (first, first)


def sync(request: Request) -> int:
    """Run it and print the results; the exit code."""
    from pg_ingest.cli.runs import Runner, Wanted
    from pg_ingest.defs.saved import read_saved

    loaded, catalogs = read_saved(request.config_path)
    shut = _discover_where_needed(loaded, catalogs)
    selections = select_sources(loaded.config, {s: catalogs.get(s) for s in loaded.config.sources})
    _warn(loaded, selections)
    tables = choose(selections, request.names)
    check_databases(selections, request.databases)
    wanted = Wanted(
        tables, request.databases, _windows(request, tables), request.reset, request.verbose
    )
    begun = monotonic()
    with open_instance(loaded.path) as instance:
        outcomes = _run(Runner(loaded, catalogs, selections, instance), wanted)
    if not request.databases:
        outcomes = nowhere(outcomes)
    if request.as_json:
        print_json({"results": [asdict(one) for one in outcomes], "errors": shut})
    else:
        _print(outcomes, monotonic() - begun)
    for error in shut.values():
        print_error(error)
    return 1 if shut or any(one.status == FAILED for one in outcomes) else 0


def _run(runner: Runner, wanted: Wanted) -> list[Outcome]:
    from pg_ingest.cli.live import Live
    from pg_ingest.cli.runs import count_tables

    total = count_tables(runner.plan(wanted))
    with progress_console() as console, Live(console, total).listening():
        return list(runner.run(wanted))


def _discover_where_needed(
    loaded: LoadedConfig, catalogs: dict[str, SourceCatalog]
) -> dict[str, PgIngestError]:
    """Look at sources chosen by pattern that nobody has looked at; why others stay unknown."""
    from pg_ingest.defs.discovery import leaves_something_open
    from pg_ingest.postgres.server import Server
    from pg_ingest.rediscover import look_and_save

    shut: dict[str, PgIngestError] = {}
    for name, settings in loaded.config.sources.items():
        if name in catalogs or not leaves_something_open(settings):
            continue
        print_note(f"{name}: looking at its tables for the first time")
        try:
            sight, _ = look_and_save(Server(name, settings), loaded.config)
            catalogs[name] = sight.catalog
            shut.update({f"{name}/{each}": error for each, error in sight.failures.items()})
        except PgIngestError as error:
            shut[name] = error
    return shut


def _windows(request: Request, tables: Chosen) -> tuple[str, str] | None:
    if request.windows is None:
        return None
    if not any(one.partition_by for found in tables.values() for one in found):
        raise click.UsageError("--window: none of these tables has partition_by")
    return request.windows


def _warn(loaded: LoadedConfig, selections: Mapping[str, Selection]) -> None:
    for warning in (*loaded.warnings, *(w for s in selections.values() for w in s.warnings)):
        print_note(f"warning: {warning}")


_COLUMNS = ("table", "database", "method", "phase", "read", "new", "changed", "gone", "rejected")
_SPARE = ("phase", "method", "size", "rejected", "window", "read", "database")
_LEFT = ("table", "database", "method", "phase", "window", "result")


def _print(outcomes: Sequence[Outcome], seconds: float) -> None:
    headings: tuple[str, ...] = (*_COLUMNS, "rows now", "size", "seconds", "result")
    if any(one.window for one in outcomes):
        headings = (*headings[:4], "window", *headings[4:])
    sides = {heading: "left" if heading in _LEFT else "right" for heading in headings}
    rows = [_row(one, "window" in headings) for one in outcomes]
    if rows:
        print_table("", sides, rows, spare=_SPARE)
    print_failures(outcomes)
    for note, tables in _notes(outcomes).items():
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        print_note(f"note: {note} ({', '.join(tables[:3])}{more})")
    counts = Counter(one.status for one in outcomes)
    parts = [f"{counts[status]} {status}" for status in (DONE, ABSENT, FAILED) if counts[status]]
    click.echo(f"\n{', '.join(parts) or 'nothing to replicate'} in {seconds:.1f} s")


def _notes(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """Each note once, with the tables it is about."""
    found: dict[str, list[str]] = {}
    for one in outcomes:
        for line in str(one.facts.get("notes") or "").splitlines():
            tables = found.setdefault(line.removeprefix("- "), [])
            if one.table not in tables:
                tables.append(one.table)
    return found


def _row(one: Outcome, with_window: bool) -> list[str]:
    def number(name: str) -> str:
        value = one.facts.get(name)
        return "" if value is None else f"{value:,}"

    size = one.facts.get("bytes")
    return [
        f"{one.source}/{one.table}",
        one.database,
        one.method,
        str(one.facts.get("phase", "")),
        *([one.window] if with_window else []),
        *(number(n) for n in ("rows_read", "inserted", "updated", "deleted", "rejected", "total")),
        "" if size is None else readable(size),
        number("duration_s"),
        one.status,
    ]


def print_failures(outcomes: Sequence[Outcome]) -> None:
    """Which tables failed and why, on standard output with the results; what they share once."""
    found: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for one in outcomes:
        if one.status == FAILED:
            why = (one.database, one.error, one.detail, one.hint)
            found.setdefault(why, {})[f"{one.source}/{one.table}"] = None
    for (database, error, detail, hint), names in found.items():
        tables = list(names)
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        who = f"{', '.join(tables[:3])}{more} in {database}"
        click.echo("\n" + click.style(f"{who} failed: ", fg="red") + error)
        for name, text in (("detail", detail), ("hint", hint)):
            if text:
                click.echo(f"  {name}: {text}")
