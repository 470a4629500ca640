"""A COPY and a load through an SSH tunnel of ours, through the OpenSSH client's, and without one.

    python -m bench.ssh_tunnel [--megabytes 125] [--runs 5] [--distance 50] [--json FILE]

Needs OpenSSH's server and client; both run on this machine, with keys made for the purpose. Each way is taken
in turn, so that whatever else the machine does hits all alike; medians count. What reads is the same each time:
our session's COPY, its bytes to nowhere, and then whole loads into a fresh DuckDB file. The tunnels are open.
With `--distance` the SSH server is that many milliseconds away, in each direction; `direct` is not.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import psycopg

from bench.measure import machine
from pg_ingest.config.model import DuckDbDestination as DuckDbConfig
from pg_ingest.config.model import IngestConfig, SourceConfig
from pg_ingest.config.selection import select
from pg_ingest.demo.cluster import Cluster, free_port
from pg_ingest.destinations.connect import open_destination
from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres.catalog import describe
from pg_ingest.postgres.select import select_rows
from pg_ingest.postgres.server import Server
from pg_ingest.table import TableId
from pg_ingest.tunnel.passage import close_tunnels
from pg_ingest_tests.sshd import USER, Sshd

_TABLE = TableId("public", "t")
_ROW_BYTES = 104
_FILL = """
create table t as
select i, md5(i::text) as a, md5((i + 1)::text) as b, i * 1.5 as n, now() as at
  from generate_series(1, {rows}) i;
vacuum (freeze, analyze) t;
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=int, default=125, help="size of the table as CSV")
    parser.add_argument("--runs", type=int, default=5, help="of each way; the median counts")
    parser.add_argument("--distance", type=float, default=0, help="milliseconds to the SSH server")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    result = measure(arguments.megabytes, arguments.runs, arguments.distance)
    for name, value in result.items():
        print(f"{name:24}{value}")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(megabytes: int, runs: int, distance: float) -> dict[str, object]:
    """All figures by name; the shares are of the OpenSSH client's throughput in the same run."""
    result: dict[str, object] = {"machine": machine()}
    with Cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        fill(cluster, megabytes * 1_000_000 // _ROW_BYTES)
        with (
            Sshd(Path(folder) / "sshd") as sshd,
            far_away(sshd, distance) if distance else nullcontext(),
            openssh(sshd, cluster.port) as port,
        ):
            ways = {
                "direct": source(cluster, port=cluster.port),
                "openssh": source(cluster, port=port),
                "ours": source(cluster, port=cluster.port, ssh=sshd.config()),
            }
            result["bytes"] = copied(ways["direct"])[1]
            for what in ("copy", "load"):
                seconds: dict[str, list[float]] = {name: [] for name in ways}
                for run in range(runs):
                    for name, config in ways.items():
                        target = Path(folder) / f"{what}-{name}-{run}.duckdb"
                        taken = copied(config)[0] if what == "copy" else loaded(config, target)
                        seconds[name].append(taken)
                middle = {name: statistics.median(each) for name, each in seconds.items()}
                for name, each in seconds.items():
                    runs_ = ", ".join(f"{one:.2f}" for one in each)
                    result[f"{what}_{name}_s"] = f"{middle[name]:.2f} ({runs_})"
                result[f"{what}_share_of_openssh"] = round(middle["openssh"] / middle["ours"], 2)
            close_tunnels()
    return result


def fill(cluster: Cluster, rows: int) -> None:
    """Make the table."""
    with psycopg.connect(
        host=cluster.host, port=cluster.port, user=cluster.user, dbname="postgres", autocommit=True
    ) as admin:
        for statement in _FILL.format(rows=rows).strip().split(";\n"):
            admin.execute(statement.encode())


def source(cluster: Cluster, **way: object) -> SourceConfig:
    """The database by that way."""
    settings = {
        "host": cluster.host,
        "user": cluster.user,
        "databases": ("postgres",),
        "method": "full_table",
        "tables": {str(_TABLE): {}},
        **way,
    }
    return SourceConfig.model_validate(settings)


@contextmanager
def far_away(sshd: Sshd, milliseconds: float) -> Iterator[None]:
    """Inside, the server's port is that of a line that takes its time."""
    near, far = sshd.port, free_port()
    relay = [sys.executable, "-m", "bench.distance", str(far), str(near), str(milliseconds)]
    with subprocess.Popen(relay) as running:
        try:
            while not answers(far):
                time.sleep(0.05)
            sshd.port = far
            sshd.trust(sshd.host_key)
            yield
        finally:
            sshd.port = near
            running.terminate()


@contextmanager
def openssh(sshd: Sshd, database: int) -> Iterator[int]:
    """`ssh -L` with the client's own choices; its port."""
    port = free_port()
    files = f"-i {sshd.client} -o UserKnownHostsFile={sshd.known_hosts} -F none"
    ways = f"-p {sshd.port} -L {port}:127.0.0.1:{database} {USER}@127.0.0.1"
    with subprocess.Popen(["ssh", "-N", *files.split(), *ways.split()]) as client:
        try:
            while not answers(port):
                if client.poll() is not None:
                    raise SystemExit("the OpenSSH client did not start")
                time.sleep(0.05)
            yield port
        finally:
            client.terminate()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with closing(socket.socket()) as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def copied(config: SourceConfig) -> tuple[float, int]:
    """Seconds and bytes of a COPY of the table, without the connecting."""
    with Server("bench", config).session("postgres") as session:
        table = describe(session, _TABLE)
        query = select_rows(table, table.columns)
        started = time.perf_counter()
        with session.copy(query) as stream:
            while stream.read(1 << 20):
                pass
        return time.perf_counter() - started, stream.bytes_read


def loaded(config: SourceConfig, path: Path) -> float:
    """Seconds of a whole load into a new file."""
    whole = IngestConfig(destination=DuckDbConfig(path=path), sources={"bench": config})
    (replication,) = select(whole, "bench", None).replications
    started = time.perf_counter()
    replicate(
        Server("bench", config),
        open_destination(whole.destination),
        replication,
        "postgres",
        max_rejected=0,
    )
    taken = time.perf_counter() - started
    path.unlink()
    return taken


if __name__ == "__main__":
    main()
