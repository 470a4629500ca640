"""A sync of a large table in a process of its own, killed directly before or after the n-th call of a step.

    python -m pg_ingest_tests.chunk_crash METHOD HOST PORT USER DATABASE FOLDER SLOT STEP WHEN N

METHOD is one of TABLES, STEP the name of a method of DuckDbDestination, WHEN `before` or `after`. Writes the
number of each chunk that is stored. Exits 0 when the step was not called so often.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.loading.replicate import replicate
from pg_ingest.table import TableId
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, logged
from pg_ingest_tests.sigkill import arm

LIMITS = {"lock_timeout": 5, "chunk_rows": 100, "load_threads": 2}

KEYED = Replication(
    source="shop",
    table=TableId("public", "t"),
    method=Method.KEY_BASED,
    target_schema="shop",
    target_table="t",
    replication_key="k",
)
LOGGED = logged("t")
COMPARED = replace(KEYED, method=Method.SNAPSHOT_DIFF, replication_key=None)
TABLES = {"log_based": LOGGED, "key_based": KEYED, "snapshot_diff": COMPARED}


def sync(shop: Following, method: str) -> None:
    table = TABLES[method]
    if method == "log_based":
        shop.sync(table)
    else:
        replicate(shop.server, shop.destination, table, shop.database.name, max_rejected=0)


def main(method: str, host: str, port: str, user: str, name: str, *rest: str) -> None:
    folder, slot, step, when, number = rest
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stdout)
    logging.getLogger("pg_ingest.loading.chunked_load").setLevel(logging.INFO)
    arm(DuckDbDestination, step, when, int(number))
    database = Database(name, host, int(port), user)
    sync(Following(database, Path(folder), slot=slot, limits=LIMITS), method)


if __name__ == "__main__":
    main(*sys.argv[1:])
