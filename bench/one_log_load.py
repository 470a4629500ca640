"""One capture and apply by the product's own path, for a process that is measured from outside.

    python -m bench.one_log_load CONFIG [--told]

Prints seconds and changes of each part as JSON. `decode` is a part of `capture`; `fold` (with typing the
folded rows) and `merge` (into the destination, with its commit) are parts of `apply`. `--told`: which chunks of
a first load it has stored, before that.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.one_load import tell_chunks
from pg_ingest.changelog import capture as capturing
from pg_ingest.config.load import load_config
from pg_ingest.config.selection import select
from pg_ingest.destinations.connect import open_destination
from pg_ingest.following.apply_log import apply_log
from pg_ingest.following.capture_log import capture_log
from pg_ingest.following.load_log import ApplySettings, TableLoad
from pg_ingest.methods import log_steps
from pg_ingest.postgres.server import Server

Seconds = Counter[str]


def timed(seconds: Seconds, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the time it takes added under that name."""

    def wrapped(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.perf_counter() - started  # type: ignore[assignment]

    return wrapped


def watch(seconds: Seconds) -> None:
    """Measure the parts from now on."""
    for module, name, part in (
        (capturing, "decode", "decode"),
        (capturing, "write_segment", "write"),
        (log_steps, "fold", "fold"),
        (log_steps, "keyed_rows", "fold"),
        (TableLoad, "store", "merge"),
    ):
        setattr(module, name, timed(seconds, part, getattr(module, name)))


def main(path: Path, *options: str) -> None:
    """Capture and apply the single table of the configuration once."""
    if "--told" in options:
        tell_chunks()
    config = load_config(path).config
    ((source, settings),) = config.sources.items()
    replications = select(config, source, None).replications
    server, destination = Server(source, settings), open_destination(config.destination)
    seconds: Seconds = Counter()
    watch(seconds)
    started = time.perf_counter()
    captured = capture_log(server, config.state_dir, settings.databases[0], replications)
    between = time.perf_counter()
    applied = list(
        apply_log(
            server,
            destination,
            config.state_dir,
            captured,
            replications,
            ApplySettings(max_rejected=0),
        )
    )
    ended = time.perf_counter()
    for one in applied:
        if one.error is not None:
            raise one.error
    print(
        json.dumps(
            {
                "changes": captured.captured.rows,
                "capture": between - started,
                "apply": ended - between,
                "total": [one.report.counts.total for one in applied if one.report],
                **seconds,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
