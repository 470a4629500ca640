"""The demo's source database: which tables it has, how they are replicated, and how it is filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pg_ingest.config.method import Method, Shape
from pg_ingest.demo.programs import Programs
from pg_ingest.table import TableId

SOURCE = "shop"
DATABASE = "shop"
READER = "ingest"
"""The role that replicates: it may log in, SELECT and read slots. (Names in `pg_…` are reserved.)"""


@dataclass(frozen=True, slots=True)
class ShopTable:
    """One table of the demo and its entry in the configuration.

    Attributes:
        settings: further keys of the entry, as in `pg_ingest.yaml`.
    """

    table: TableId
    method: Method
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> dict[str, Any]:
        """The table's mapping below `tables:`."""
        return {"method": self.method.value, **self.settings}

    @property
    def soft(self) -> bool:
        """Whether the destination keeps deleted rows, marked."""
        return self.settings.get("shape") == Shape.SOFT_DELETE


def _table(name: str, method: Method, **settings: Any) -> ShopTable:
    return ShopTable(TableId.parse(name), method, settings)


SHOP: tuple[ShopTable, ...] = (
    _table("sales.products", Method.FULL_TABLE),
    _table("sales.till_journal", Method.FULL_TABLE),
    _table("sales.revenue_by_day", Method.FULL_TABLE, key=["day", "status"]),
    _table("sales.orders", Method.KEY_BASED, replication_key="updated_at"),
    _table("sales.order_items", Method.KEY_BASED, replication_key="updated_at"),
    _table("sales.order_states", Method.KEY_BASED, replication_key="updated_at", key=["id"]),
    _table("public.pgbench_accounts", Method.XMIN),
    _table("sales.customers", Method.DELTA_SNAPSHOT),
    _table("sales.events", Method.SNAPSHOT_DIFF),
    _table("sales.carts", Method.LOG_BASED),
    _table("sales.sessions", Method.LOG_BASED, shape="soft_delete"),
    _table("sales.stock_moves", Method.LOG_BASED),
    _table("sales.visits", Method.LOG_BASED),
    _table("sales.promotions", Method.LOG_BASED),
    _table("public.pgbench_branches", Method.FULL_TABLE),
    _table("public.pgbench_tellers", Method.FULL_TABLE),
    _table("public.pgbench_history", Method.FULL_TABLE),
)
"""Everything the demo replicates. A new method gets its tables here and nowhere else."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is in the shop; `order_items` is its largest table."""

    order_items: int

    @property
    def rows(self) -> int:
        """`order_items`, made even for the other tables."""
        return max(2000, self.order_items - self.order_items % 2000)

    @property
    def customers(self) -> int:
        """Rows of sales.customers."""
        return self.rows // 40

    @property
    def products(self) -> int:
        """Rows of sales.products."""
        return self.rows // 100

    @property
    def orders(self) -> int:
        """Rows of sales.orders."""
        return self.rows // 4

    @property
    def logged(self) -> int:
        """Rows of each larger table that is replicated from the log."""
        return self.rows // 50

    @property
    def pgbench_scale(self) -> int:
        """pgbench's `-s`: 100,000 accounts each."""
        return max(1, self.rows // 200_000)


def fill(programs: Programs, size: Size) -> None:
    """Create the shop and pgbench's tables in the (empty) database of `programs`."""
    script = Path(__file__).with_name("shop.sql")
    programs.psql("-v", f"rows={size.rows}", "-o", "/dev/null", "-f", str(script))
    programs.pgbench("-i", "-q", "-s", str(size.pgbench_scale))
