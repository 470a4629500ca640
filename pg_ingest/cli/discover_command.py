"""`pg-ingest discover`: connect, look, save the catalogue, say what is replicated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from pg_ingest.cli.options import config_option, json_option
from pg_ingest.cli.output import print_error, print_json, print_note, print_table
from pg_ingest.config.load import LoadedConfig, load_config
from pg_ingest.config.problem import did_you_mean
from pg_ingest.config.selection import Replication, Selection
from pg_ingest.errors import PgIngestError
from pg_ingest.table import SourceCatalog, Table


@click.command("discover", short_help="Look at the sources and save what is there.")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@config_option
@json_option
@click.pass_context
def command(
    context: click.Context, sources: tuple[str, ...], config_path: Path | None, as_json: bool
) -> None:
    """Look at the databases of the sources, save what is there, and list the tables.

    The code location never connects: it knows what this command (or the discovery sensor) has saved.
    Where the configuration does not fit what is there any more, that is an error and the earlier
    state is kept.
    """
    loaded = load_config(config_path)
    for name in sources:
        if name not in loaded.config.sources:
            hint = did_you_mean(name, loaded.config.sources)
            raise click.UsageError(f"there is no source {name}; {hint}")
    failed = False
    told: dict[str, Any] = {}
    for name in sources or loaded.config.sources:
        told[name] = _discover(loaded, name, as_json)
        failed = failed or bool(told[name]["errors"])
    if as_json:
        print_json(told)
    context.exit(1 if failed else 0)


def _discover(loaded: LoadedConfig, source: str, as_json: bool) -> dict[str, Any]:
    from pg_ingest.catalog_file import catalog_path
    from pg_ingest.postgres.server import Server
    from pg_ingest.rediscover import look_and_save

    errors: list[PgIngestError] = []
    told: dict[str, Any] = {"databases": [], "tables": [], "errors": errors}
    try:
        server = Server(source, loaded.config.sources[source])
        sight, selection = look_and_save(server, loaded.config)
        errors.extend(sight.failures[name] for name in sorted(sight.failures))
        told["databases"] = [found.database for found in sight.catalog.databases]
        told["saved"] = catalog_path(loaded.config.state_dir, source)
        told["tables"] = [_row(one, sight.catalog) for one in selection.replications]
        told["warnings"] = selection.warnings
        if not as_json:
            _print(source, selection, told)
    except PgIngestError as error:
        errors.append(error)
    for each in errors:
        print_error(each)
    return told


def _row(replication: Replication, catalog: SourceCatalog) -> dict[str, Any]:
    found: list[Table] = []
    for database in catalog.databases:
        table = database.table(replication.table)
        if table is not None:
            found.append(table)
    first = found[0] if found else None
    return {
        "table": str(replication.table),
        "kind": first.kind.value if first else "unknown",
        "method": replication.method.value,
        "key": list(replication.key or (first.primary_key if first else ())),
        "target": f"{replication.target_schema}.{replication.target_table}",
        "databases": len(found),
        "rows": _sum(table.estimated_rows for table in found),
        "bytes": _sum(table.estimated_bytes for table in found if table.estimated_rows >= 0),
    }


def _sum(estimates: Iterable[int]) -> int | None:
    """Of those that are known; None when the server has never looked at any of the tables."""
    known = [each for each in estimates if each >= 0]
    return sum(known) if known else None


_SPARE = ("into", "databases", "kind")


def _print(source: str, selection: Selection, told: dict[str, Any]) -> None:
    sides = {"rows ≈": "right", "size ≈": "right"}
    headings = ("table", "kind", "method", "key", "rows ≈", "size ≈", "databases", "into")
    rows = [
        [
            row["table"],
            row["kind"],
            row["method"],
            ", ".join(row["key"]) or "–",
            "–" if row["rows"] is None else f"{row['rows']:,}",
            "–" if row["bytes"] is None else readable(row["bytes"]),
            f"{row['databases']} of {len(selection.databases)}",
            row["target"],
        ]
        for row in told["tables"]
    ]
    title = f"{source}: {len(rows)} tables in {', '.join(told['databases']) or 'no database'}"
    print_table(
        title, {heading: sides.get(heading, "left") for heading in headings}, rows, spare=_SPARE
    )
    for warning in selection.warnings:
        print_note(f"warning: {warning}")


def readable(size: float) -> str:
    """Bytes in the unit that keeps the number short: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
