"""The real servers that tests can use beside the wheel's PostgreSQL, as far as they are installed.

`.ci/run` installs all of them and sets PG_INGEST_TEST_ALL, so that there a missing one is an error. On a
bare machine the run's header says what is missing, and tests that need it are skipped with that reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WANTED = (10, 12, 14, 16)
"""Major versions that CI installs beside the wheel's own; see `.ci/servers`."""

_SYSTEM = Path("/usr/lib/postgresql")
_SYSTEM_PACKAGES = "postgresql-15 and postgresql-15-wal2json (Debian 12)"


def other_servers() -> dict[int, Path]:
    """Major version → folder with `initdb`, below $PG_INGEST_TEST_SERVERS."""
    folder = os.environ.get("PG_INGEST_TEST_SERVERS")
    if not folder:
        return {}
    found = {
        major: Path(folder) / "node_modules" / f"pg{major}" / "native" / "bin" for major in WANTED
    }
    missing = [
        str(major) for major, binaries in found.items() if not (binaries / "initdb").exists()
    ]
    if missing:
        raise FileNotFoundError(
            f"no PostgreSQL {', '.join(missing)} below {folder}: see .ci/servers"
        )
    return found


def system_server() -> Path | None:
    """Folder with `initdb` of the newest packaged PostgreSQL that has TLS and wal2json, or None."""
    having = [
        folder / "bin"
        for folder in _SYSTEM.glob("*")
        if (folder / "bin" / "initdb").exists() and (folder / "lib" / "wal2json.so").exists()
    ]
    return _required(max(having, key=lambda each: int(each.parent.name), default=None))


def packaged() -> Path:
    """`system_server` for those who are marked with `needs_system_server`."""
    found = system_server()
    assert found is not None
    return found


def wal2json_settings() -> dict[str, str]:
    """What the packaged server needs so that ordinary roles may use wal2json; only newer ones know it."""
    described = subprocess.run(
        [packaged() / "postgres", "--describe-config"], capture_output=True, text=True, check=True
    )
    name = "output_plugin_libraries"
    return {name: "pgoutput, wal2json"} if name in described.stdout else {}


def sshd() -> Path | None:
    """OpenSSH's server program, or None."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return _required(None if found is None else Path(found))


def pgbouncer() -> Path | None:
    """PgBouncer's program, or None."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return _required(None if found is None else Path(found))


def _required(found: Path | None) -> Path | None:
    if found is None and os.environ.get("PG_INGEST_TEST_ALL"):
        raise FileNotFoundError("PG_INGEST_TEST_ALL is set, but a server is missing: see .ci/run")
    return found


needs_system_server = pytest.mark.skipif(
    system_server() is None, reason=f"needs {_SYSTEM_PACKAGES}"
)
needs_sshd = pytest.mark.skipif(sshd() is None, reason="needs OpenSSH's sshd (openssh-server)")
needs_pgbouncer = pytest.mark.skipif(pgbouncer() is None, reason="needs pgbouncer")


def describe() -> list[str]:
    """Lines for the header of the test run: what is there, and what each missing server is for."""
    found = other_servers()
    lines = [f"PostgreSQL servers: {', '.join(['18 (wheel)', *map(str, found)])}"]
    if not found:
        lines.append(
            f"  not installed: {', '.join(map(str, WANTED))}; for tests on other versions run"
            " `.ci/servers DIR` and set PG_INGEST_TEST_SERVERS=DIR"
        )
    for what, where, remedy in (
        ("TLS and wal2json", system_server(), _SYSTEM_PACKAGES),
        ("SSH tunnels", sshd(), "openssh-server"),
        ("connection poolers", pgbouncer(), "pgbouncer"),
    ):
        lines.append(f"{what}: {where}" if where else f"{what}: not tested, install {remedy}")
    return lines
