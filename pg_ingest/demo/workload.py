"""What happens in the shop: pgbench runs the scripts of `scripts/`, and its own classic beside them.

Tables that are replicated by key are only inserted into and updated with `updated_at` moved, and
pgbench's accounts, replicated by `xmin`, are only inserted into and updated: that is all these methods
can see. Everywhere else rows are deleted too, keys change where `delta_snapshot` or the log finds that,
and in the tables that are replicated from the log values too long for their row stay as they are and
parts of transactions are rolled back.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pg_ingest.demo.programs import Programs
from pg_ingest.demo.shop import Size

_SCRIPTS = Path(__file__).parent / "scripts"
_WEIGHTS = {"order": 6, "ship": 8, "customer": 3, "product": 2, "event": 3, "till": 2}
_WEIGHTS |= {"cart": 5, "session": 4, "stock": 3, "visit": 4}
_CLIENTS = 3


@dataclass(frozen=True, slots=True)
class Workload:
    """The shop's users.

    Attributes:
        transactions_per_second: of all scripts together, when it runs in the background.
    """

    programs: Programs
    size: Size
    transactions_per_second: int = 30

    def run(self, transactions: int) -> None:
        """About `transactions` transactions, the same ones each time, then quiet."""
        each = max(1, transactions // _CLIENTS)
        self.programs.pgbench(*self._arguments(), "--random-seed=18", "-t", str(each))

    @contextmanager
    def in_background(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Transactions at an even rate until the block ends, late committers among them."""
        slow = ("-f", f"{_SCRIPTS / 'slow_order.sql'}@1")
        rate = ("-R", str(self.transactions_per_second), "-T", str(7 * 86400))
        arguments = (*self._arguments(), *slow, *rate)
        with self.programs.pgbench_in_background(*arguments, log=log) as process:
            yield process

    @contextmanager
    def late_order(self) -> Iterator[None]:
        """An order, and changes of tables of each other method, made now and committed when the block ends.

        Its `updated_at` and its transaction id are then older than those of everything committed inside the
        block. No row of it is one that the workload would wait for.
        """
        with self.programs.open_transaction(
            "insert into sales.orders (customer_id, total, note) values (1, 7.77, 'late');",
            "insert into sales.order_items (order_id, line, sku, quantity, price)"
            " values (currval('sales.orders_id_seq'), 1, 'P-00000001', 1, 7.77);",
            "insert into public.pgbench_accounts values (0, 1, 7, 'late');",
            "insert into sales.customers (name, segment) values ('Late', 'household');",
            "delete from sales.events where (happened_at, id) ="
            " (select happened_at, id from sales.events_2025_02 limit 1);",
            "insert into sales.carts (customer_id, memo) values (1, 'late');",
            "delete from sales.promotions where code = 'SPRING1';",
        ):
            yield

    def new_season(self) -> None:
        """Every promotion ends and others begin, in one transaction with a TRUNCATE in the middle."""
        self.programs.psql(
            "-1",
            *("-c", "update sales.promotions set discount = 0"),
            *("-c", "truncate sales.promotions"),
            *(
                "-c",
                "insert into sales.promotions values ('SUMMER', 0.10, null), ('SALE', 0.5, null)",
            ),
        )

    def _arguments(self) -> tuple[str, ...]:
        scripts = [
            argument
            for name, weight in _WEIGHTS.items()
            for argument in ("-f", f"{_SCRIPTS / name}.sql@{weight}")
        ]
        variables = {
            "customers": self.size.customers,
            "products": self.size.products,
            "orders": self.size.orders,
            **dict.fromkeys(("carts", "sessions", "visits"), self.size.logged),
        }
        for name, value in variables.items():
            scripts += ["-D", f"{name}={value}"]
        classic = ("-b", "tpcb-like@6")
        return ("-n", "-c", str(_CLIENTS), "--max-tries=20", *scripts, *classic)
