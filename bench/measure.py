"""What a command costs: wall clock, processor and peak memory of the child process alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, its start and imports included.

    Attributes:
        wall, cpu: seconds.
        peak_mb: greatest resident set, in 10**6 bytes.
        said: its last line on standard output.
    """

    wall: float
    cpu: float
    peak_mb: float
    said: str = ""


def measured(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, discard: bool = False
) -> Usage:
    """Run a command to its end; raise SystemExit when it fails. `discard`: output to nowhere."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if discard else subprocess.PIPE,
    )
    said = process.stdout.read().decode() if process.stdout else ""
    _, status, resources = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    cpu = resources.ru_utime + resources.ru_stime
    last = said.splitlines()[-1] if said.strip() else ""
    return Usage(wall, cpu, resources.ru_maxrss * unit / 1e6, last)


def median(usages: Sequence[Usage]) -> Usage:
    """Each figure's median; the greatest of the peaks."""
    return Usage(
        statistics.median(usage.wall for usage in usages),
        statistics.median(usage.cpu for usage in usages),
        max(usage.peak_mb for usage in usages),
    )


def machine() -> str:
    """One line about where the figures come from."""
    model = "unknown processor"
    try:
        with Path("/proc/cpuinfo").open() as file:
            model = next(line.split(":", 1)[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores ({model}), Python {sys.version.split()[0]}"
