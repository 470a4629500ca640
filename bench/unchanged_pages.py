"""What `visibility_map` saves: a sync by `xmin` of a table of which few rows have changed, with and without.

    python -m bench.unchanged_pages --binaries /usr/lib/postgresql/15/bin [--rows 5000000] [--runs 5]

Needs a PostgreSQL 14 or 15 with contrib. The rows of one increment are read and thrown away; nothing is stored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from bench.measure import machine
from pg_ingest.bookmark import XminBookmark
from pg_ingest.config.method import Method
from pg_ingest.config.model import SourceConfig
from pg_ingest.config.selection import Replication
from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.methods import changed_rows, unchanged_pages, xmin
from pg_ingest.methods.request import Request
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.server import Server
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.visibility_function import create_function
from pg_ingest.table import TableId

_FUNCTION = TableId("maps", "of_table")
_TABLE = TableId("public", "t")
_FILL = """
create table t (id int primary key, v text);
insert into t select g, repeat('x', 200) from generate_series(1, {rows}) g;
vacuum analyze t;
checkpoint;
"""
_CHANGES = {
    "1 row": "update t set v = 'b' where id = {rows}",
    "1,000 rows all over": "update t set v = 'c' where id % ({rows} / 1000) = 7",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--binaries", type=Path, required=True, help="of PostgreSQL 14 or 15")
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of about 230 bytes")
    parser.add_argument("--runs", type=int, default=5, help="runs; the median counts")
    arguments = parser.parse_args()
    settings = {"autovacuum": "off", "synchronous_commit": "on"}
    with Cluster(binaries=arguments.binaries, settings=settings) as cluster:
        _psql(cluster, create_function(_FUNCTION, cluster.user))
        _psql(cluster, _FILL.format(rows=arguments.rows))
        result = _measured(cluster, arguments.rows, arguments.runs)
    print(json.dumps({"machine": machine(), "rows": arguments.rows, **result}, indent=1))


def _psql(cluster: Cluster, script: str) -> None:
    program = str(embedded_binaries() / "psql")
    address = ["-h", cluster.host, "-p", str(cluster.port), "-U", cluster.user, "-d", "postgres"]
    subprocess.run(
        [program, "-Xqv", "ON_ERROR_STOP=1", *address], input=script, text=True, check=True
    )


def _measured(cluster: Cluster, rows: int, runs: int) -> dict[str, object]:
    config = SourceConfig(
        host=cluster.host, port=cluster.port, user=cluster.user, databases=("postgres",)
    )
    plain = Replication("bench", _TABLE, Method.XMIN, "bench", "t")
    skipping = replace(plain, visibility_map=str(_FUNCTION))
    with Server("bench", config).session("postgres") as session:
        before = _position(session, skipping)
        result: dict[str, object] = {}
        for name, change in _CHANGES.items():
            _psql(cluster, change.format(rows=rows))
            for which, replication in (("all pages", plain), ("changed pages", skipping)):
                seconds = [_seconds(session, replication, before) for _ in range(runs)]
                result[f"{name}, {which}, s"] = round(statistics.median(seconds), 3)
    return result


def _position(session: Session, replication: Replication) -> XminBookmark:
    """The bookmark of a load that has just been, without the load."""
    table = describe(session, _TABLE)
    mapped = unchanged_pages.position(session, replication, table)
    plan = changed_rows.planned(session, replication, table)
    return replace(changed_rows.first_position(session, plan), mapped=mapped)


def _seconds(session: Session, replication: Replication, bookmark: XminBookmark) -> float:
    started = time.perf_counter()
    table = describe(session, _TABLE)
    with xmin.read(Request(session, replication, table, bookmark)) as reading:
        for _ in reading.batches:
            pass
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
