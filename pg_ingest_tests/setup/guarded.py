"""A server that lets nobody in without a password, a shop on it, and an administrator who runs scripts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent

import psycopg

from pg_ingest.config.load import LoadedConfig, load_config
from pg_ingest.demo.cluster import Cluster, embedded_binaries
from pg_ingest.doctor.examine import examine
from pg_ingest.doctor.finding import Finding, Test, Verdict
from pg_ingest_tests.conftest import Database

PASSWORD = "open sesame"

SETTINGS = {
    "max_slot_wal_keep_size": "1GB",
    "password_encryption": "scram-sha-256",
    "max_prepared_transactions": "5",
}


def guard(cluster: Cluster) -> None:
    """Only the superuser enters without a password."""
    rules = [
        f"host all {cluster.user} 127.0.0.1/32 trust",
        "host all all 127.0.0.1/32 scram-sha-256",
    ]
    (cluster.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
    Database("postgres", cluster.host, cluster.port, cluster.user).execute(
        "select pg_reload_conf()"
    )


@dataclass(frozen=True)
class Shop:
    """One database of a guarded server, a role that is to read it, and a folder with a configuration."""

    cluster: Cluster
    database: Database
    role: str
    folder: Path

    def configure(self, text: str) -> LoadedConfig:
        head = f"""\
            destination: {{type: duckdb, path: warehouse.duckdb}}
            sources:
              shop:
                host: {self.cluster.host}
                port: {self.cluster.port}
                user: {self.role}
                password: {{env: GUARDED_PASSWORD}}
            """
        path = self.folder / "pg_ingest.yaml"
        path.write_text(dedent(head) + indent(dedent(text), "    "))
        return load_config(path)

    def run(self, script: str, database: str = "postgres") -> str:
        """Let the administrator run a script with psql, which asks for a password without a terminal."""
        done = subprocess.run(
            self._psql(script, database),
            input=f"{PASSWORD}\n{PASSWORD}\n",
            text=True,
            capture_output=True,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout

    def _psql(self, script: str, database: str) -> list[str]:
        path = self.folder / "setup.sql"
        path.write_text(script)
        program = str(embedded_binaries() / "psql")
        server = ["-h", self.cluster.host, "-p", str(self.cluster.port), "-U", self.cluster.user]
        return [program, "-X", *server, "-d", database, "-f", str(path)]

    def connect(self) -> psycopg.Connection:
        """As the role."""
        return self.database.connect(user=self.role, password=PASSWORD)


def bad(findings: Sequence[Finding]) -> list[Finding]:
    """Failures and warnings."""
    return [each for each in findings if each.verdict in (Verdict.FAILED, Verdict.WARNING)]


def check(loaded: LoadedConfig) -> list[Finding]:
    """All findings but how fast this machine is, which depends on what else it does just now."""
    found = examine(loaded.config, ["shop"])
    return [each for each in found if each.test is not Test.SPEED]
