"""Key based: an increment of about 100,000 changed rows of TPC-H lineitem (SF1, 6 million rows).

    python -m bench.key_based [--scale 1] [--runs 5] [--json FILE]

The first load is measured once. Then, each time, every 60th order's lines change and get a new
`updated_at` of another day, and one more sync brings them. Rows within the last seconds before the position,
or read while something else (an autovacuum) ran, would be read twice; the days and a table without
autovacuum keep that out of the figures. Beside it psql's `COPY … csv` of the same rows to nowhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench.lineitem import lineitem, write_config
from bench.measure import Usage, machine, measured, median

_STAMP = """
create table stamped as
select l.*, timestamptz '2026-01-01 00:00+00' + row_number() over () * interval '1 second' as updated_at
  from lineitem l;
drop table lineitem;
alter table stamped rename to lineitem;
alter table lineitem add primary key (l_orderkey, l_linenumber);
alter table lineitem set (autovacuum_enabled = off);
create index on lineitem (updated_at);
vacuum analyze lineitem;
"""
_DAY = "timestamptz '2026-06-01 00:00+00' + {run} * interval '1 day'"
_CHANGE = f"""
update lineitem
   set l_quantity = l_quantity + 1, updated_at = {_DAY} + l_orderkey * interval '1 millisecond'
 where l_orderkey % 60 = {{run}}
"""
_CHANGED = f"copy (select * from lineitem where updated_at >= {_DAY}) to stdout (format csv)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", default="1", help="TPC-H scale factor (1 is 6 M rows)")
    parser.add_argument("--runs", type=int, default=5, help="increments; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    result = measure(arguments.scale, arguments.runs)
    for name, value in result.items():
        print(f"{name:20}{value}")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(scale: str, runs: int) -> dict[str, object]:
    """All figures by name."""
    reads: list[Usage] = []
    loads: list[Usage] = []
    with lineitem(scale) as programs, tempfile.TemporaryDirectory() as folder:
        for statement in _STAMP.strip().split(";\n"):
            programs.query(statement)
        config = write_config(
            Path(folder), programs, method="key_based", replication_key="updated_at"
        )
        load = [sys.executable, "-m", "bench.one_load", str(config)]
        first = measured(load)
        for run in range(runs):
            programs.query(_CHANGE.format(run=run))
            psql, environment = programs.psql_command("-c", _CHANGED.format(run=run))
            reads.append(measured(psql, environment, discard=True))
            loads.append(measured(load))
            print(f"run {run + 1}: {loads[-1].wall:.2f} s {loads[-1].said}", file=sys.stderr)
    middle = median(loads)
    reports = [json.loads(usage.said) for usage in loads]
    return {
        "machine": machine(),
        "first_load_s": round(first.wall, 2),
        "first_load_peak_mb": round(first.peak_mb),
        "rows_read": [report["rows"] for report in reports],
        "updated": [report["updated"] for report in reports],
        "wall_s": round(middle.wall, 2),
        "load_s": round(sorted(report["seconds"] for report in reports)[runs // 2], 2),
        "cpu_s": round(middle.cpu, 2),
        "peak_mb": round(middle.peak_mb),
        "psql_copy_s": round(median(reads).wall, 2),
    }


if __name__ == "__main__":
    main()
