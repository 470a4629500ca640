"""What the demo has to say: one table per method, each line a replicated table.

Rows inserted, updated and deleted are those of all syncs after the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from pg_ingest.config.method import Method
from pg_ingest.demo.compare import Comparison
from pg_ingest.demo.shop import ShopTable
from pg_ingest.table import TableId


@dataclass(frozen=True, slots=True)
class Load:
    """One line of `_pgi.loads`."""

    seconds: float
    rows_read: int
    bytes_read: int
    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One table: its loads, oldest first, and what the comparison found."""

    shown: ShopTable
    loads: Sequence[Load]
    found: Comparison


def read_loads(warehouse: Path) -> Mapping[TableId, list[Load]]:
    """All loads in the DuckDB file by source table, oldest first."""
    loads: dict[TableId, list[Load]] = {}
    with duckdb.connect(warehouse, read_only=True) as connection:
        rows = connection.execute(
            'select "schema", "table", duration_s, rows_read, bytes_read, inserted, updated, deleted'
            " from _pgi.loads order by id"
        ).fetchall()
    for schema, table, *figures in rows:
        loads.setdefault(TableId(schema, table), []).append(Load(*figures))
    return loads


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """One table per method, in the order in which the methods come up."""
    for method in dict.fromkeys(verdict.shown.method for verdict in verdicts):
        of_method = [verdict for verdict in verdicts if verdict.shown.method is method]
        console.print(_table(method, of_method))


def _table(method: Method, verdicts: Sequence[Verdict]) -> Table:
    table = Table(title=f"method: {method.value}", title_justify="left", title_style="bold")
    table.add_column("table")
    for heading in ("rows", "first sync", "MB/s", "last sync", "inserted", "updated", "deleted"):
        table.add_column(heading, justify="right")
    table.add_column("equal?")
    for verdict in verdicts:
        table.add_row(*_line(verdict))
    return table


_COUNTS = ("inserted", "updated", "deleted")


def _line(verdict: Verdict) -> list[str]:
    first, *later = verdict.loads
    found = verdict.found
    equal = "[green]yes[/]"
    if not found.equal:
        equal = f"[red]no: {found.missing:,} missing, {found.surplus:,} surplus[/]"
    return [
        str(verdict.shown.table),
        f"{found.rows:,}",
        f"{first.seconds:.2f} s",
        f"{first.bytes_read / 1e6 / max(first.seconds, 1e-3):.1f}",
        f"{later[-1].seconds:.2f} s" if later else "–",
        *(f"{sum(getattr(load, count) for load in later):,}" for count in _COUNTS),
        equal,
    ]
