"""How long a code location of 1,000 configured tables takes to load.

    python -m bench.load_time [--tables 1000] [--runs 5] [--json FILE]

A fresh process imports `pg_ingest.definitions`, builds the definitions and resolves them to a
repository, as a code server does; start and imports (Dagster's own too) are in the figure. One run
each with and without a saved catalogue of ten columns a table, with advice on each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import yaml

from bench.measure import Usage, machine, measured, median
from pg_ingest.catalog_file import save_catalog
from pg_ingest.table import (
    Column,
    DatabaseCatalog,
    MethodAdvice,
    PgType,
    RelationKind,
    SourceCatalog,
    Table,
    TableId,
    TypeKind,
)

_LOAD = """
import json, time
started = time.perf_counter()
import dagster
imported = time.perf_counter()
from pg_ingest.definitions import defs
repository = defs().get_repository_def()
done = time.perf_counter()
assets = [key for key in repository.asset_graph.materializable_asset_keys]
print(json.dumps({"assets": len(assets), "dagster_s": imported - started, "load_s": done - started}))
"""
_TEXT = PgType(25, "text", "pg_catalog", TypeKind.BASE, -1, "text")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tables", type=int, default=1000, help="configured tables")
    parser.add_argument("--runs", type=int, default=5, help="runs; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    result: dict[str, object] = {"machine": machine(), "tables": arguments.tables}
    for catalogued in (False, True):
        name = "with a saved catalogue" if catalogued else "without a catalogue"
        result[name] = figures(arguments.tables, arguments.runs, catalogued=catalogued)
        print(f"{name:24}{result[name]}")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def figures(tables: int, runs: int, *, catalogued: bool) -> dict[str, float]:
    """Medians, in seconds."""
    names = [TableId("public", f"t{number:05}") for number in range(tables)]
    with tempfile.TemporaryDirectory() as folder:
        config = _write_config(Path(folder), names)
        if catalogued:
            save_catalog(Path(folder) / ".pg_ingest", _catalog(names))
        usages: list[Usage] = [
            measured([sys.executable, "-c", _LOAD], {"PG_INGEST_CONFIG": str(config)})
            for _ in range(runs)
        ]
    said = [json.loads(usage.said) for usage in usages]
    if {one["assets"] for one in said} != {tables}:
        raise SystemExit(f"not every table became an asset: {said}")
    middle = median(usages)
    return {
        "process_s": round(middle.wall, 2),
        "load_s": round(sorted(one["load_s"] for one in said)[runs // 2], 2),
        "of_which_import_dagster_s": round(sorted(one["dagster_s"] for one in said)[runs // 2], 2),
        "peak_mb": round(middle.peak_mb),
    }


def _write_config(folder: Path, names: list[TableId]) -> Path:
    source = {
        "host": "127.0.0.1",
        "user": "nobody_is_asked",
        "databases": ["db"],
        "schedule": {"every": "30m"},
        "tables": {str(name): {"method": "full_table"} for name in names},
    }
    config = {
        "destination": {"type": "duckdb", "path": "warehouse.duckdb"},
        "sources": {"bench": source},
    }
    path = folder / "pg_ingest.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def _catalog(names: list[TableId]) -> SourceCatalog:
    columns = tuple(Column(f"column_{number}", number, _TEXT) for number in range(1, 11))
    tables = tuple(
        Table(name, 20000 + number, RelationKind.TABLE, columns, primary_key=("column_1",))
        for number, name in enumerate(names)
    )
    why = "changes all over the table are read once, from the log"
    standing = (("key_based", "no column of a type that grows (a number, a date, a time)"),)
    advice = tuple(
        MethodAdvice(name, "log_based", why, standing, "2026-01-01T00:00:00+00:00")
        for name in names
    )
    database = DatabaseCatalog("db", 180000, tables, advice)
    return SourceCatalog("bench", "2026-01-01T00:00:00+00:00", (database,))


if __name__ == "__main__":
    main()
