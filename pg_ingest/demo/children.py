"""The demo's Python children: `pg-ingest` commands and the user interface.

Each gets a session of its own, so that a Ctrl-C in the terminal reaches only the demo, which then asks
the child's leader to stop (Dagster stops its own processes; a signal to all of them at once makes them
wait for each other) and finally ends whatever is left of the session.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from pg_ingest.errors import PersonMustAct

_STOP_SECONDS = 25
_START_SECONDS = 120


def pg_ingest(*arguments: str, environment: Mapping[str, str], folder: Path) -> int:
    """Run a `pg-ingest` command in `folder` to its end, talking to our terminal; its exit code."""
    process = subprocess.Popen(
        _command(*arguments),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait()
    finally:
        _end(process)


@contextmanager
def user_interface(
    port: int, environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """`pg-ingest dev` on that port until the block ends; what it says is in `folder/dagster.log`.

    Raises:
        PersonMustAct: it does not answer.
    """
    log = folder / "dagster.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            _command("dev", "--port", str(port)),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(process, port, log)
        yield process
    finally:
        _end(process)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pg_ingest.cli import main; main()", *arguments]


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, OSError):
            direct.open(f"http://127.0.0.1:{port}/server_info", timeout=5).close()
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.3)
    raise PersonMustAct(
        "Dagster's user interface does not start",
        detail=" | ".join(log.read_text(errors="replace").splitlines()[-5:]),
        hint=f"is port {port} free? another one: `pg-ingest demo --port 3999`",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the leader to stop, wait, then end what is left of its session."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
