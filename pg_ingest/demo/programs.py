"""The wheel's own client programs: how the demo acts as the shop's application.

The shop is filled, changed and read for comparison by `psql` and `pgbench`, not by the driver that
replicates it: what the demo proves does not rest on the code it proves.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pg_ingest.errors import PersonMustAct

_STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Programs:
    """`psql` and `pgbench` of one server and database, as its superuser.

    Attributes:
        binaries: the folder they lie in.
    """

    binaries: Path
    host: str
    port: int
    user: str
    database: str

    def psql(self, *arguments: str) -> str:
        """Run `psql` to its end and return what it printed; raise PersonMustAct when it fails."""
        return self._run(self._psql(*arguments))

    def query(self, statement: str) -> str:
        """The single value of a query, as psql prints it."""
        return self.psql("-c", statement).strip()

    def export(self, query: str, path: Path) -> None:
        """Write a query's rows to `path` as CSV: every value quoted, NULL as a bare `\\N`."""
        options = "(format csv, force_quote *, null '\\N')"
        with path.open("wb") as file:
            command = self._psql("-c", f"copy ({query}) to stdout {options}")
            done = subprocess.run(
                command, env=self._environment(), stdout=file, stderr=subprocess.PIPE
            )
        _check(command, done.returncode, done.stderr)

    def feed(self, statement: str, rows: IO[bytes]) -> None:
        """Run `COPY … FROM STDIN` with the bytes of an open file or pipe."""
        command = self._psql("-c", statement)
        done = subprocess.run(command, env=self._environment(), stdin=rows, capture_output=True)
        _check(command, done.returncode, done.stderr)

    def psql_command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """The command and the environment `psql` would be run with."""
        return self._psql(*arguments), self._environment()

    def pgbench(self, *arguments: str) -> str:
        """Run `pgbench` to its end and return what it printed; raise PersonMustAct when it fails."""
        return self._run([str(self.binaries / "pgbench"), *arguments, self.database])

    @contextmanager
    def pgbench_in_background(
        self, *arguments: str, log: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """`pgbench` in a session of its own until the block ends; what it says goes to `log`."""
        command = [str(self.binaries / "pgbench"), *arguments, self.database]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            stop(process)

    @contextmanager
    def open_transaction(self, *statements: str) -> Iterator[None]:
        """A transaction that has done `statements` and commits only when the block ends."""
        process = subprocess.Popen(
            self._psql(),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            script = ["begin;", *statements, "\\echo done", ""]
            process.stdin.write("\n".join(script).encode())
            process.stdin.flush()
            while process.stdout.readline() not in (b"done\n", b""):
                pass
            yield
            _, said = process.communicate(b"commit;\n")
        except BaseException:
            stop(process)
            raise
        _check(self._psql(), process.returncode, said)

    def _psql(self, *arguments: str) -> list[str]:
        return [str(self.binaries / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *arguments]

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True
        )
        _check(command, done.returncode, done.stderr)
        return done.stdout.decode()

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C",
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
            "PGCLIENTENCODING": "UTF8",
            "PGOPTIONS": "-c timezone=UTC -c datestyle=ISO -c extra_float_digits=1",
        }


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a child: politely, then not; leaves no zombie."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _check(command: list[str], returncode: int, said: bytes) -> None:
    if returncode:
        raise PersonMustAct(
            f"the demo's {Path(command[0]).name} ended with {returncode}",
            detail=" | ".join(said.decode(errors="replace").splitlines()[-4:]),
            hint="this is a fault of the demo or of the embedded PostgreSQL, not of your machine's",
        )
