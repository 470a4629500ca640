"""Large tables: two connections for lineitem, beside two `psql` COPYs over ranges of pages; and a killed load.

    python -m bench.historical [--scale 1] [--runs 3] [--kills 3] [--method key_based] [--json FILE]

The first part is the full load under one snapshot (`--runs 0` leaves it out). All take turns, each in a fresh
process that starts with a new DuckDB file. The second part loads the same table in chunks by one of the other
methods, with a writer at work, kills the load at random moments, and compares source and destination at the
end (`killed.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench.killed import METHODS, Killed
from bench.lineitem import lineitem, write_config
from bench.measure import Usage, machine, measured, median
from pg_ingest.demo.programs import Programs

_HALF = "copy (select * from lineitem where ctid {} '({},0)') to stdout (format csv)"
_TWO = '{0} -c "{1}" > /dev/null & {0} -c "{2}" > /dev/null & wait'


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with lineitem(arguments.scale) as programs, tempfile.TemporaryDirectory() as folder:
        rows = int(programs.query("select count(*) from lineitem"))
        result: dict[str, object] = {
            "scale": arguments.scale,
            "rows": rows,
            "machine": machine(),
        }
        if arguments.runs:
            result["parallel"] = _parallel(programs, Path(folder), arguments.runs, rows)
        killed = Killed(programs, Path(folder), arguments.method, rows)
        result["killed"] = killed.measure(arguments.kills)
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", default="1", help="TPC-H scale factor (1 is 6 M rows)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--method", default=METHODS[0], choices=METHODS, help="of the killed load")
    parser.add_argument("--kills", type=int, default=3, help="how often the load is killed")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _parallel(programs: Programs, folder: Path, runs: int, rows: int) -> dict[str, object]:
    config = write_config(folder, programs, method="full_table")
    ours = [sys.executable, "-m", "bench.one_load", str(config)]
    usages: dict[str, list[Usage]] = {"two psql": [], "one psql": [], "pg_ingest": []}
    for run in range(runs):
        usages["two psql"].append(_two_copies(programs))
        usages["one psql"].append(_one_copy(programs))
        for path in folder.glob("warehouse.duckdb*"):
            path.unlink()
        usages["pg_ingest"].append(measured(ours))
        for name, found in usages.items():
            print(f"run {run + 1}: {name} {found[-1].wall:.2f} s", file=sys.stderr)
    loads = sorted(float(json.loads(run.said)["seconds"]) for run in usages["pg_ingest"])
    base = median(usages["two psql"]).wall
    figures: dict[str, object] = {
        name: {
            "wall_s": round(median(found).wall, 2),
            "ratio": round(median(found).wall / base, 2),
            "peak_mb": round(median(found).peak_mb),
        }
        for name, found in usages.items()
    }
    load = loads[len(loads) // 2]
    figures["pg_ingest load alone"] = {"wall_s": round(load, 2), "ratio": round(load / base, 2)}
    figures["rows_per_s"] = round(rows / load)
    return figures


def _one_copy(programs: Programs) -> Usage:
    command, environment = programs.psql_command("-c", _HALF.format(">=", 0))
    return measured(command, environment, discard=True)


def _two_copies(programs: Programs) -> Usage:
    pages = int(programs.query("select pg_relation_size('lineitem') / 8192"))
    psql, environment = programs.psql_command()
    halves = [_HALF.format(sign, pages // 2) for sign in ("<", ">=")]
    command = _TWO.format(" ".join(psql), *halves)
    return measured(["bash", "-c", command], environment, discard=True)


if __name__ == "__main__":
    main()
