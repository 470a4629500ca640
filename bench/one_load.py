"""One load by the product's own path, for a process that is measured from outside.

    python -m bench.one_load CONFIG [--reset] [--told]

Prints what `replicate` reported, as JSON; `--told`: which chunks it has stored before that.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from pg_ingest.config.load import load_config
from pg_ingest.config.selection import select
from pg_ingest.destinations.connect import open_destination
from pg_ingest.loading.replicate import replicate
from pg_ingest.postgres.server import Server


def main(path: Path, *options: str) -> None:
    """Replicate the single table of the configuration once."""
    if "--told" in options:
        tell_chunks()
    config = load_config(path).config
    ((source, settings),) = config.sources.items()
    (replication,) = select(config, source, None).replications
    report = replicate(
        Server(source, settings),
        open_destination(config.destination),
        replication,
        settings.databases[0],
        max_rejected=settings.limits.max_rejected,
        reset="--reset" in options,
    )
    counts = report.counts
    print(
        json.dumps(
            {
                "seconds": report.duration_s,
                "rows": report.rows_read,
                "bytes": report.bytes_read,
                "inserted": counts.inserted,
                "updated": counts.updated,
                "deleted": counts.deleted,
                "total": counts.total,
                "notes": report.notes,
            }
        )
    )


def tell_chunks() -> None:
    """Print when a load in chunks begins, and each chunk that is stored."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    for module in ("chunked_load", "open_chunks"):
        logging.getLogger(f"pg_ingest.{module}").setLevel(logging.INFO)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
