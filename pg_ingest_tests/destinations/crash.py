"""A load in a process of its own that dies, or runs out of disk, at a named step.

    python -m pg_ingest_tests.destinations.crash FILE SCOPE STEP

Steps: `reading` (half of the rows have arrived), `staged`, `statement N` (before the N-th statement of
the commit), `ledger` (before bookmark and report are written), `recorded` (after), `committed` (the
transaction is through, the file still open). `full-reading`, `full-commit`: no file may grow any more.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pg_ingest.batch import Batch, Everything, Keys, Ranges, Scope
from pg_ingest.bookmark import FullTableBookmark
from pg_ingest.destinations.duckdb import ledger
from pg_ingest.destinations.duckdb.arrival import Arrival
from pg_ingest.errors import DestinationFailed
from pg_ingest_tests.destinations.warehouse import SCHEMA, STREAM, TARGET, Warehouse, draft

NEWER = FullTableBookmark("0/2", "2026-01-02T00:00:00Z")
_FROM_ZERO = pa.RecordBatch.from_arrays([pa.array([0])], names=["id"])
SCOPES: dict[str, Scope] = {
    "everything": Everything(),
    "keys": Keys(("id",)),
    "ranges": Ranges(("id",), _FROM_ZERO, open_start=False, stored=1),
}
ROWS, BATCH = 150_000, 25_000


def batches() -> Iterator[Batch]:
    """Rows that do not compress: ids from 1, random numbers."""
    random = np.random.default_rng(7)
    for first in range(0, ROWS, BATCH):
        ids = np.arange(first + 1, first + BATCH + 1)
        columns = [pa.array(ids), pa.nulls(BATCH, pa.string()), pa.array(random.random(BATCH))]
        yield Batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_more_room(limit: int) -> None:
    """From now on no file of this process may grow beyond `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def broken(source: Iterator[Batch], step: str, path: Path) -> Iterator[Batch]:
    for number, batch in enumerate(source):
        if number == 4 and step == "reading":
            die()
        if number == 1 and step == "full-reading":
            no_more_room(path.stat().st_size)
        yield batch


def arm(step: str) -> None:
    """Let the process die at the step."""
    name, _, number = step.partition(" ")
    run, record = Arrival.run, ledger.record
    left = [int(number or 0)]

    def counted(self: Arrival, statement: Any) -> int:
        left[0] -= 1
        if not left[0]:
            die()
        return run(self, statement)

    def recording(*arguments: Any) -> int:
        if name == "ledger":
            die()
        load_id = record(*arguments)
        if name == "recorded":
            die()
        return load_id

    if name == "statement":
        Arrival.run = counted  # type: ignore[method-assign]
    ledger.record = recording  # type: ignore[assignment]


def main(path: Path, scope: Scope, step: str) -> None:
    arm(step)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    destination = Warehouse(path).destination
    source = broken(batches(), step, path)
    try:
        with destination.stage(STREAM, TARGET, SCHEMA, source, max_rejected=0) as stage:
            if step == "staged":
                die()
            if step == "full-commit":
                no_more_room(100)
            stage.commit(scope, NEWER, draft())
            if step == "committed":
                die()
    except DestinationFailed as error:
        print(error)
        sys.exit(3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), SCOPES[sys.argv[2]], sys.argv[3])
