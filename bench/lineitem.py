"""A server with TPC-H's lineitem in it, and the configuration that replicates it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from pg_ingest.demo.cluster import Cluster
from pg_ingest.demo.programs import Programs

_TABLE = """
create table lineitem (
    l_orderkey bigint not null, l_partkey bigint, l_suppkey bigint, l_linenumber integer not null,
    l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2),
    l_tax numeric(15,2), l_returnflag char(1), l_linestatus char(1), l_shipdate date,
    l_commitdate date, l_receiptdate date, l_shipinstruct char(25), l_shipmode char(10),
    l_comment varchar(44)
)
"""


@contextmanager
def lineitem(scale: str) -> Iterator[Programs]:
    """A running server whose database `postgres` holds lineitem at that scale factor."""
    with Cluster() as cluster:
        programs = Programs(cluster.binaries, cluster.host, cluster.port, cluster.user, "postgres")
        programs.query(_TABLE)
        _fill(programs, scale)
        programs.query("alter table lineitem add primary key (l_orderkey, l_linenumber)")
        programs.query("vacuum analyze lineitem")
        programs.query("checkpoint")
        yield programs


def _fill(programs: Programs, scale: str) -> None:
    generator = Path(sys.executable).with_name("tpchgen-cli")
    if not generator.exists():
        raise SystemExit("tpchgen-cli is missing: pip install -e '.[bench]'")
    command = [str(generator), "csv", "-s", scale, "-T", "lineitem", "--stdout", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as rows:
        assert rows.stdout is not None
        programs.feed("copy lineitem from stdin (format csv, header)", rows.stdout)
    if rows.returncode:
        raise SystemExit(f"tpchgen-cli ended with {rows.returncode}")


def write_config(
    folder: Path,
    programs: Programs,
    more: Mapping[str, object] | None = None,
    /,
    **table: object,
) -> Path:
    """A `pg_ingest.yaml` in `folder` that replicates lineitem into `folder/warehouse.duckdb`.

    Args:
        more: settings of the source.
        table: settings of the table.
    """
    source = {
        "host": programs.host,
        "port": programs.port,
        "user": programs.user,
        "databases": [programs.database],
        "tables": {"public.lineitem": table},
        **(more or {}),
    }
    config = {
        "destination": {"type": "duckdb", "path": "warehouse.duckdb"},
        "sources": {"bench": source},
    }
    path = folder / "pg_ingest.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
