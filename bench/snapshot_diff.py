"""Snapshot diff: 0.1 % of TPC-H lineitem (SF1, 6 million rows) changed in one place.

    python -m bench.snapshot_diff [--scale 1] [--runs 5] [--json FILE]

The first load is measured once. Then, each time, the lines of 0.1 % of the orders, neighbours by key, change,
and one more sync brings them; and one more finds nothing to do. All turns also read the table in three plain
ways: `COPY … csv` of all of it to nowhere (what one sequential scan costs that hands the rows out), a scan that
reaches the last column of every row, and `count(*)`, which looks at none. Loads run in a fresh process;
`load_s` is without its start and imports, which is what stands beside the plain scans.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from bench.lineitem import lineitem, write_config
from bench.measure import Usage, machine, measured, median
from pg_ingest.demo.programs import Programs

_SCANS = {
    "copy": "copy (select * from lineitem) to stdout (format csv)",
    "last_column": "select count(l_comment) from lineitem",
    "count": "select count(*) from lineitem",
}
_CHANGE = """
update lineitem set l_quantity = l_quantity + 1
 where l_orderkey between {first} and {first} + (select max(l_orderkey) from lineitem) / 1000
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", default="1", help="TPC-H scale factor (1 is 6 M rows)")
    parser.add_argument("--runs", type=int, default=5, help="changes; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    with lineitem(arguments.scale) as programs, tempfile.TemporaryDirectory() as folder:
        result = measure(programs, Path(folder), arguments.runs)
    for name, value in result.items():
        print(f"{name:28}{value}")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(programs: Programs, folder: Path, runs: int) -> dict[str, object]:
    """All figures by name."""
    config = write_config(folder, programs, method="snapshot_diff")
    load = [sys.executable, "-m", "bench.one_load", str(config)]
    first = measured(load)
    table_bytes = int(json.loads(first.said)["bytes"])
    greatest = int(programs.query("select max(l_orderkey) from lineitem"))
    syncs: list[Usage] = []
    idle: list[Usage] = []
    scans: dict[str, list[Usage]] = {name: [] for name in _SCANS}
    for run in range(runs):
        programs.query(_CHANGE.format(first=greatest * (run + 1) // (runs + 1)))
        syncs.append(measured(load))
        idle.append(measured(load))
        for name, statement in _SCANS.items():
            psql, environment = programs.psql_command("-c", statement)
            scans[name].append(measured(psql, environment, discard=True))
        print(f"run {run + 1}: {syncs[-1].said}", file=sys.stderr)
    return _result(first, table_bytes, syncs, idle, scans)


def _result(
    first: Usage,
    table_bytes: int,
    syncs: list[Usage],
    idle: list[Usage],
    scans: dict[str, list[Usage]],
) -> dict[str, object]:
    reports = [json.loads(usage.said) for usage in syncs]
    load_s = statistics.median(report["seconds"] for report in reports)
    idle_s = statistics.median(json.loads(usage.said)["seconds"] for usage in idle)
    walls = {name: median(usages).wall for name, usages in scans.items()}
    return {
        "machine": machine(),
        "first_load_s": round(first.wall, 2),
        "first_load_peak_mb": round(first.peak_mb),
        "rows_changed": [report["updated"] for report in reports],
        "rows_read": [report["rows"] for report in reports],
        "percent_of_bytes": [round(100 * report["bytes"] / table_bytes, 3) for report in reports],
        "wall_s": round(median(syncs).wall, 2),
        "load_s": round(load_s, 2),
        "idle_load_s": round(idle_s, 2),
        "peak_mb": round(median(syncs).peak_mb),
        **{f"scan_{name}_s": round(wall, 2) for name, wall in walls.items()},
        **{f"load_in_{name}_scans": round(load_s / wall, 2) for name, wall in walls.items()},
    }


if __name__ == "__main__":
    main()
