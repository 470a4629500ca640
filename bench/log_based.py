"""Log based: a backlog of 1 M changes in as many transactions, beside `pg_recvlogical` to nowhere.

    python -m bench.log_based [--backlog 1] [--runs 5] [--no-peer] [--json FILE]

Both read copies of one slot, in turns, so that a noisy machine is noisy for both. Each runs in a fresh
process; its wall clock includes its start and, for us, imports, and everything into DuckDB. The last
figures, changes a second by parts, are of our median run. At the end source and destination are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import duckdb

from bench.backlog import (
    BASE,
    SLOT,
    change,
    copy_slot,
    drop_slot,
    orders,
    recvlogical_command,
    write_config,
)
from bench.measure import Usage, machine, measured, median
from pg_ingest.demo.programs import Programs

PARTS = ("capture", "decode", "write", "apply", "fold", "merge")
_SUMS = "select count(*), sum(id), sum(amount), sum(quantity), sum(length(note)) from {}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backlog", type=float, default=1, help="millions of changes")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts")
    parser.add_argument("--no-peer", action="store_true", help="only ours")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    changes = round(arguments.backlog * 1_000_000)
    result = measure(changes, arguments.runs, peer=not arguments.no_peer)
    _print(result)
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(changes: int, runs: int, *, peer: bool) -> dict[str, object]:
    """All figures by name."""
    peers: list[Usage] = []
    ours: list[Usage] = []
    with orders() as programs, tempfile.TemporaryDirectory() as folder:
        begun, run_folder = Path(folder) / "begun", Path(folder) / "run"
        begun.mkdir()
        measured(_command(write_config(begun, programs)))
        copy_slot(programs, SLOT, BASE)
        change(programs, changes)
        end = programs.query("select pg_current_wal_flush_lsn()")
        for run in range(runs):
            if peer:
                copy_slot(programs, BASE, "bench_peer")
                peers.append(measured(*recvlogical_command(programs, "bench_peer", end)))
                drop_slot(programs, "bench_peer")
            ours.append(_load(programs, begun, run_folder))
            walls = [round(each[-1].wall, 2) for each in (peers, ours) if each]
            print(f"run {run + 1}: {walls} s {ours[-1].said}", file=sys.stderr)
        _compare(programs, run_folder / "warehouse.duckdb")
    return _result(changes, peers, ours)


def _command(config: Path) -> list[str]:
    return [sys.executable, "-m", "bench.one_log_load", str(config)]


def _load(programs: Programs, begun: Path, folder: Path) -> Usage:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(begun, folder)
    copy_slot(programs, BASE, SLOT)
    return measured(_command(folder / "pg_ingest.yaml"))


def _compare(programs: Programs, warehouse: Path) -> None:
    source = programs.query(_SUMS.format("orders")).split("|")
    with duckdb.connect(warehouse, read_only=True) as connection:
        row = connection.execute(_SUMS.format("bench.orders")).fetchone()
    assert row is not None
    if source != [str(value) for value in row]:
        raise SystemExit(f"source and destination differ: {source} and {row}")


def _result(changes: int, peers: list[Usage], ours: list[Usage]) -> dict[str, object]:
    middle = sorted(ours, key=lambda usage: usage.wall)[len(ours) // 2]
    said = json.loads(middle.said)
    if said["changes"] != changes:
        raise SystemExit(f"{said['changes']} changes were captured, not {changes}")
    captures = sorted(float(json.loads(usage.said)["capture"]) for usage in ours)
    figures: dict[str, object] = {
        "machine": machine(),
        "changes": changes,
        "wall_s": round(median(ours).wall, 2),
        "capture_s": round(captures[len(captures) // 2], 2),
        "cpu_s": round(median(ours).cpu, 2),
        "peak_mb": round(median(ours).peak_mb),
        "walls": [round(usage.wall, 2) for usage in ours],
        "changes_per_s": {part: round(changes / said[part]) for part in PARTS},
    }
    if peers:
        base = median(peers).wall
        figures["pg_recvlogical_s"] = round(base, 2)
        figures["pg_recvlogical_walls"] = [round(usage.wall, 2) for usage in peers]
        figures["wall_ratio"] = round(median(ours).wall / base, 2)
        figures["capture_ratio"] = round(captures[len(captures) // 2] / base, 2)
    return figures


def _print(result: dict[str, object]) -> None:
    for name, value in result.items():
        print(f"{name:22}{value}")


if __name__ == "__main__":
    main()
