"""A server whose table has got many changes, one small transaction each, that nobody has read yet."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from pg_ingest.demo.cluster import Cluster
from pg_ingest.demo.programs import Programs

SLOT = "pg_ingest_postgres"
BASE = "bench_base"
CLIENTS = 2
ROWS = 200_000

_TABLE = f"""
create table orders (
    id bigint primary key, customer integer, status text, amount numeric(12,2), quantity integer,
    created timestamptz, due date, note text, active boolean, weight double precision
);
create function make(i bigint) returns orders language sql immutable as $$
    select row(i, i % 1000, 'new', (i % 100000) / 100.0, i % 7,
        timestamptz '2026-01-01 00:00+00' + i * interval '1 second', date '2026-01-01' + (i % 365)::int,
        'a note of order ' || i, i % 3 = 0, i / 7.0)::orders
$$;
insert into orders select (make(n)).* from generate_series(1, {ROWS}) n;
create procedure change(client bigint, changes bigint) language plpgsql as $$
declare
    own bigint := {ROWS} / {CLIENTS};
    new bigint := {ROWS} + client * 1000000000;
begin
    for i in 1..changes loop
        case when i % 10 < 4 then
            insert into orders select (make(new + i)).*;
        when i % 10 < 9 then
            update orders set status = 'paid', amount = amount + 1
                where id = 1 + client * own + i::bigint * 7919 % own;
        else
            delete from orders where id = new + i - 8;
        end case;
        commit;
    end loop;
end $$;
"""


@contextmanager
def orders() -> Iterator[Programs]:
    """A running server with the table `orders`, ten columns, in its database `postgres`."""
    with Cluster(settings={"max_wal_size": "64GB", "autovacuum": "off"}) as cluster:
        programs = Programs(cluster.binaries, cluster.host, cluster.port, cluster.user, "postgres")
        programs.query(_TABLE)
        yield programs


def change(programs: Programs, changes: int) -> None:
    """So many transactions with one insert, update or delete each; 4, 5 and 1 of ten."""
    running = [
        subprocess.Popen(_call(programs, client, changes // CLIENTS)) for client in range(CLIENTS)
    ]
    ended = [process.wait() for process in running]
    if any(ended):
        raise SystemExit("the changes could not be made")
    programs.query("select pg_switch_wal()")


def _call(programs: Programs, client: int, changes: int) -> list[str]:
    command, environment = programs.psql_command("-c", f"call change({client}, {changes})")
    return ["env", *(f"{name}={value}" for name, value in environment.items()), *command]


def copy_slot(programs: Programs, origin: str, name: str) -> None:
    """Make slot `name` a copy of `origin`, whatever it was before."""
    drop_slot(programs, name)
    programs.query(f"select pg_copy_logical_replication_slot('{origin}', '{name}')")


def drop_slot(programs: Programs, name: str) -> None:
    """Drop the slot if it is there."""
    programs.query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
        f" where slot_name = '{name}'"
    )


def recvlogical_command(
    programs: Programs, slot: str, end: str
) -> tuple[list[str], dict[str, str]]:
    """`pg_recvlogical` that reads the slot up to a position, to nowhere."""
    _, environment = programs.psql_command()
    options = ["--slot", slot, "--start", "--no-loop", "--endpos", end, "-f", "/dev/null"]
    plugin = ["-o", "proto_version=1", "-o", "publication_names=pg_ingest"]
    program = str(programs.binaries / "pg_recvlogical")
    return [program, "-d", programs.database, *options, *plugin], environment


def write_config(folder: Path, programs: Programs) -> Path:
    """A `pg_ingest.yaml` in `folder` that follows `orders` into `folder/warehouse.duckdb`."""
    source = {
        "host": programs.host,
        "port": programs.port,
        "user": programs.user,
        "databases": [programs.database],
        "tables": {"public.orders": {"method": "log_based"}},
    }
    config = {
        "destination": {"type": "duckdb", "path": "warehouse.duckdb"},
        "sources": {"bench": source},
    }
    path = folder / "pg_ingest.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
