"""A sync of log-based tables in a process of its own, killed directly before or after the n-th call of a step.

    python -m pg_ingest_tests.log_crash HOST PORT USER DATABASE FOLDER SLOT PLUGIN STEP WHEN N

STEP is a key of STEPS, WHEN `before` or `after`. Exits 0 when the step was not called so often.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pg_ingest.changelog import capture as capturing
from pg_ingest.changelog import join
from pg_ingest.changelog import log as changelog
from pg_ingest.destinations.duckdb import DuckDbDestination
from pg_ingest.destinations.duckdb.stage import DuckDbStage
from pg_ingest.following import ask_source, follow_log, publish_log
from pg_ingest.methods import log_based, log_steps
from pg_ingest.postgres import anchor
from pg_ingest.postgres.reader import SqlReader
from pg_ingest_tests.conftest import Database
from pg_ingest_tests.followed import Following, logged
from pg_ingest_tests.sigkill import arm

TABLES = (logged("keyed"), logged("plain"))

STEPS: dict[str, tuple[Any, str]] = {
    "forget": (follow_log, "write_followed"),
    "publish": (publish_log, "keep_publication"),
    "create slot": (join, "create_slot"),
    "read": (capturing, "decode"),
    "segment": (capturing, "write_segment"),
    "manifest": (changelog.ChangeLog, "commit"),
    "advance": (SqlReader, "confirm"),
    "wait": (follow_log, "wait_for_writers"),
    "snapshot": (log_based, "snapshot"),
    "anchor": (anchor, "make_slot"),
    "stage": (DuckDbStage, "fill"),
    "apply": (DuckDbStage, "_apply"),
    "commit": (DuckDbStage, "commit"),
    "columns": (ask_source, "logged_columns"),
    "bookmark": (DuckDbDestination, "bookmark"),
}


def main(arguments: list[str]) -> None:
    host, port, user, name, folder, slot, plugin, step, when, number = arguments
    capturing.FIRST_MESSAGES = capturing.MOST_MESSAGES = 100
    log_steps.STEP_ROWS = 200
    arm(*STEPS[step], when, int(number))
    database = Database(name, host, int(port), user)
    Following(database, Path(folder), slot=slot, plugin=plugin).sync(*TABLES)


if __name__ == "__main__":
    main(sys.argv[1:])
