"""One load by the product's own path, for a process that is measured from outside.

    python -m bench.one_load CONFIG

Prints what `replicate` reported, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pg_ingest.config.load import load_config
from pg_ingest.config.selection import select
from pg_ingest.destinations.connect import open_destination
from pg_ingest.postgres.session import Server
from pg_ingest.replicate import replicate


def main(path: Path) -> None:
    """Replicate the single table of the configuration once."""
    config = load_config(path).config
    ((source, settings),) = config.sources.items()
    (replication,) = select(config, source, None).replications
    report = replicate(
        Server(source, settings),
        open_destination(config.destination),
        replication,
        settings.databases[0],
        max_rejected=settings.limits.max_rejected,
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
