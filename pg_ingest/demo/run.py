"""`pg-ingest demo`: see it work, or with `--once` have it proved."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from pg_ingest.cli.instance import make_home
from pg_ingest.config.method import Method
from pg_ingest.demo import signals
from pg_ingest.demo.children import pg_ingest, user_interface
from pg_ingest.demo.cluster import free_port, is_free
from pg_ingest.demo.compare import compare
from pg_ingest.demo.report import Verdict, print_verdicts, read_loads
from pg_ingest.demo.scene import Scene, scene
from pg_ingest.demo.shop import SHOP, SOURCE, Size

ROWS = 1_000_000
"""Of the largest table, `sales.order_items`."""

_USUAL_PORT = 3000
_CHANGES = 900  # transactions before each later sync of `--once`


def main(*, once: bool, port: int | None = None, rows: int = ROWS, keep: Path | None = None) -> int:
    """Run the demo until Ctrl-C, or once; the exit code.

    Args:
        once: sync, change data, sync again, compare every table; 0 only when all are equal.
        port: of the user interface; None: 3000, or a free one.
        rows: of the largest table.
        keep: a work folder that stays; None: a temporary one.

    Raises:
        PgIngestError: the embedded server, a command of the shop or the user interface fails.
    """
    console = _console()
    with signals.stop_once():
        try:
            with _set_up(console, rows, keep) as stage:
                return _once(console, stage) if once else _live(console, stage, port)
        except KeyboardInterrupt:
            console.print("Stopped: nothing is left running.")
            return 130 if once else 0


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=130)


@contextmanager
def _set_up(console: Console, rows: int, keep: Path | None) -> Iterator[Scene]:
    size = Size(rows)
    started = time.perf_counter()
    console.print(
        f"Starting an embedded PostgreSQL and filling a shop of {size.rows:,} order items …"
    )
    with scene(size, keep) as stage:
        console.print(f"… filled in {time.perf_counter() - started:.1f} s. Folder: {stage.folder}")
        try:
            yield stage
        finally:
            signals.ignore()


def _once(console: Console, stage: Scene) -> int:
    """Three syncs: all tables, those that find changes while a transaction is open, all after it."""
    onward = [str(shown.table) for shown in SHOP if shown.method is not Method.FULL_TABLE]
    if code := _sync(console, stage, "first sync"):
        return code
    with stage.workload.late_order():
        stage.workload.run(_CHANGES)
        title = "what changed, while an order is uncommitted"
        if code := _sync(console, stage, title, *onward):
            return code
    stage.workload.new_season()
    stage.workload.run(_CHANGES)
    if code := _sync(console, stage, "second sync, after more changes and the late commit"):
        return code
    return _judge(console, stage)


def _judge(console: Console, stage: Scene) -> int:
    console.rule("comparing source and destination row by row")
    verdicts = _compare(stage)
    print_verdicts(console, verdicts)
    unequal = [verdict for verdict in verdicts if not verdict.found.equal]
    rows = sum(verdict.found.rows for verdict in verdicts)
    if unequal:
        console.print(f"[red]{len(unequal)} of {len(verdicts)} tables differ.[/]")
        return 1
    console.print(f"[green]All {len(verdicts)} tables are equal: {rows:,} rows.[/]")
    return 0


def _sync(console: Console, stage: Scene, title: str, *tables: str) -> int:
    console.rule(title)
    return pg_ingest("sync", *tables, environment=stage.environment(), folder=stage.folder)


def _compare(stage: Scene) -> list[Verdict]:
    loads = read_loads(stage.warehouse)
    return [
        Verdict(
            shown,
            loads[shown.table],
            compare(
                stage.programs,
                shown.table,
                stage.warehouse,
                stage.target(shown.table),
                soft=shown.soft,
            ),
        )
        for shown in SHOP
    ]


def _live(console: Console, stage: Scene, port: int | None) -> int:
    environment = stage.environment()
    make_home(stage.config)
    pg_ingest("discover", environment=environment, folder=stage.folder)
    if code := _sync(console, stage, "first sync; the later ones are Dagster's"):
        return code
    if port is None:
        port = _USUAL_PORT if is_free(_USUAL_PORT) else free_port()
    console.print("Opening Dagster's user interface …")
    with (
        stage.workload.in_background(stage.folder / "workload.log") as workload,
        user_interface(port, environment, stage.folder) as interface,
    ):
        console.print(_guide(stage, port))
        while interface.poll() is None:
            if workload.poll() is not None:
                console.print(f"[red]The workload ended: see {stage.folder}/workload.log[/]")
                return 1
            with suppress(subprocess.TimeoutExpired):
                interface.wait(1)
    console.print(f"[red]The user interface ended: see {stage.folder}/dagster.log[/]")
    return 1


def _guide(stage: Scene, port: int) -> str:
    url = f"http://127.0.0.1:{port}"
    psql = stage.programs.binaries / "psql"
    at = f"-h {stage.programs.host} -p {stage.programs.port} -U {stage.programs.user}"
    return f"""
[bold]{url}[/]
  {url}/runs                 a run of sync_{SOURCE} begins every minute
  {url}/asset-groups         every table is an asset, its partition is the database
  {url}/assets/{SOURCE}/sales/orders   rows, seconds, positions of each load
  {url}/assets/{SOURCE}/sales/carts    from the log: rows inserted, updated, deleted
  {url}/assets/{SOURCE}/sales/customers   the same without a log: delta_snapshot compares keys
  {url}/assets/{SOURCE}/change_log     the slot's lag: below Metadata choose Plots, then Events,
                                        and find pg_ingest/lag_bytes; the sensor {SOURCE}_slot_lag
                                        adds a point every minute

The shop is busy: orders, changed prices, lost customers, abandoned carts, transactions that commit
late, and pgbench. Deleted sessions stay, marked: {SOURCE}.sessions, column _pgi_deleted_at.
  source       {psql} {at} {stage.programs.database}
  destination  {stage.warehouse}: open it read-only and briefly, it has one writer
  config       {stage.config}

Ctrl-C stops everything.
"""
