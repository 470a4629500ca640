"""Full table: TPC-H lineitem from PostgreSQL into DuckDB, beside psql's `COPY … csv` to nowhere.

    python -m bench.full_table [--scale 1] [--runs 5] [--peers] [--json FILE]

All take turns, so that a noisy machine is noisy for all. Each runs in a fresh process; its wall clock
includes its start and imports. Every load makes a new DuckDB file; `again` replaces the table that the
load before it has written, as each later sync does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.lineitem import lineitem, write_config
from bench.measure import Usage, machine, measured, median
from bench.peers import missing
from pg_ingest.demo.programs import Programs

COPY = "copy (select * from lineitem) to stdout (format csv)"


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with lineitem(arguments.scale) as programs, tempfile.TemporaryDirectory() as folder:
        subjects = _subjects(programs, Path(folder), peers=arguments.peers)
        usages: dict[str, list[Usage]] = {name: [] for name in subjects}
        for run in range(arguments.runs):
            for name, subject in subjects.items():
                usages[name].append(subject())
                print(f"run {run + 1}: {name} {usages[name][-1].wall:.2f} s", file=sys.stderr)
        rows = int(programs.query("select count(*) from lineitem"))
    result = _result(usages, arguments.scale, rows)
    _print(result)
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", default="1", help="TPC-H scale factor (1 is 6 M rows)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts")
    parser.add_argument("--peers", action="store_true", help="other tools too, where installed")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _subjects(programs: Programs, folder: Path, *, peers: bool) -> dict[str, Callable[[], Usage]]:
    config = write_config(folder, programs, method="full_table")
    ours = [sys.executable, "-m", "bench.one_load", str(config)]
    psql, environment = programs.psql_command("-c", COPY)

    def fresh(command: list[str]) -> Usage:
        for path in folder.glob("warehouse.duckdb*"):
            path.unlink()
        return measured(command)

    subjects: dict[str, Callable[[], Usage]] = {
        "psql COPY csv": lambda: measured(psql, environment, discard=True),
        "pg_ingest": lambda: fresh(ours),
        "pg_ingest again": lambda: measured(ours),
    }
    for name in ("duckdb", "dlt") if peers else ():
        if reason := missing(name):
            print(f"{name} skipped: {reason}", file=sys.stderr)
            continue
        peer_folder = folder / name
        url = f"postgresql://{programs.user}@{programs.host}:{programs.port}/{programs.database}"
        command = [sys.executable, "-m", "bench.peers", name, url, str(peer_folder)]
        subjects[name] = lambda command=command, peer=peer_folder: _peer(command, peer)
    return subjects


def _peer(command: list[str], folder: Path) -> Usage:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return measured(command, {"RUNTIME__DLTHUB_TELEMETRY": "false"})


def _result(usages: dict[str, list[Usage]], scale: str, rows: int) -> dict[str, object]:
    base = median(usages["psql COPY csv"]).wall
    figures = {}
    for name, runs in usages.items():
        middle = median(runs)
        figures[name] = {
            "wall_s": round(middle.wall, 2),
            "ratio": round(middle.wall / base, 2),
            "cpu_s": round(middle.cpu, 2),
            "peak_mb": round(middle.peak_mb),
            "walls": [round(run.wall, 2) for run in runs],
        }
        if name.startswith("pg_ingest"):
            loads = sorted(float(json.loads(run.said)["seconds"]) for run in runs)
            figures[name]["load_s"] = round(loads[len(loads) // 2], 2)
    return {"scale": scale, "rows": rows, "machine": machine(), "figures": figures}


def _print(result: dict[str, object]) -> None:
    figures = result["figures"]
    assert isinstance(figures, dict)
    print(f"lineitem, scale {result['scale']}, {result['rows']:,} rows; {result['machine']}")
    print(f"{'':18}{'wall s':>8}{'ratio':>7}{'cpu s':>8}{'peak MB':>9}")
    for name, line in figures.items():
        print(
            f"{name:18}{line['wall_s']:>8.2f}{line['ratio']:>7.2f}"
            f"{line['cpu_s']:>8.2f}{line['peak_mb']:>9}"
        )


if __name__ == "__main__":
    main()
