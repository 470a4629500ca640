"""The demo's stage: a server, a filled shop, and a work folder with a configuration."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from pg_ingest.demo.cluster import Cluster
from pg_ingest.demo.programs import Programs
from pg_ingest.demo.shop import DATABASE, READER, SHOP, SOURCE, Size, fill
from pg_ingest.demo.workload import Workload
from pg_ingest.errors import PersonMustAct
from pg_ingest.table import TableId

_HEADER = """\
# Written by `pg-ingest demo`: a shop on an embedded PostgreSQL, replicated into one DuckDB file.
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything is set up, nothing is replicated yet.

    Attributes:
        folder: the work folder: pg_ingest.yaml, warehouse.duckdb, .dagster_home, logs.
        scratch: for temporary files of child processes, which they do not always delete.
        programs: psql and pgbench of the shop's database, as its superuser.
    """

    folder: Path
    scratch: Path
    programs: Programs
    size: Size

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "pg_ingest.yaml"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.folder / "warehouse.duckdb"

    @property
    def workload(self) -> Workload:
        """The shop's users."""
        return Workload(self.programs, self.size)

    def environment(self) -> dict[str, str]:
        """For child processes: this configuration, and nobody else's Dagster."""
        kept = {name: value for name, value in os.environ.items() if "DAGSTER" not in name}
        return {**kept, "PG_INGEST_CONFIG": str(self.config), "TMPDIR": str(self.scratch)}

    def target(self, table: TableId) -> TableId:
        """Where the default naming puts a table."""
        return TableId(SOURCE, table.name)


@contextmanager
def scene(size: Size, keep: Path | None) -> Iterator[Scene]:
    """A running server with a filled shop; at the end the server and its data are gone.

    Args:
        keep: the work folder, kept at the end; None: a temporary one, deleted.

    Raises:
        PersonMustAct: `keep` holds a configuration already, or the server does not start.
    """
    with (
        _temporary_folder("pgi_") as scratch,
        _temporary_folder("pg_ingest_demo_") if keep is None else _kept(keep) as folder,
        Cluster() as cluster,
    ):
        server = Programs(cluster.binaries, cluster.host, cluster.port, cluster.user, "postgres")
        server.query(f"create database {DATABASE}")
        programs = Programs(cluster.binaries, cluster.host, cluster.port, cluster.user, DATABASE)
        fill(programs, size)
        _write_config(folder, cluster.host, cluster.port)
        yield Scene(folder, scratch, programs, size)


@contextmanager
def _temporary_folder(prefix: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    if folder.exists() and any(folder.iterdir()):
        raise PersonMustAct(
            f"the folder {folder} is not empty",
            hint="name a new one: the demo writes its configuration and its warehouse there",
        )
    folder.mkdir(parents=True, exist_ok=True)
    yield folder.resolve()


def _write_config(folder: Path, host: str, port: int) -> None:
    config = {
        "destination": {"type": "duckdb", "path": "warehouse.duckdb"},
        "sources": {
            SOURCE: {
                "host": host,
                "port": port,
                "user": READER,
                "databases": [DATABASE],
                "schedule": {"every": "1m"},
                "tables": {str(shown.table): shown.entry for shown in SHOP},
            }
        },
    }
    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=110)
    (folder / "pg_ingest.yaml").write_text(_HEADER + text)
