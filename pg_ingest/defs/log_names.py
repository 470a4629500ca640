"""Names of what the log-based tables of a source share."""

import dagster as dg

from pg_ingest.config.method import Method
from pg_ingest.config.selection import Replication

CHANGE_LOG = "change_log"


def change_log_key(source: str) -> dg.AssetKey:
    """Key of the change log's asset."""
    return dg.AssetKey([source, CHANGE_LOG])


def log_op_name(source: str) -> str:
    """The step of all log-based tables; those of single tables have three parts."""
    return f"{source}__{Method.LOG_BASED}"


def log_pool(source: str) -> str:
    """Concurrency pool of the step: it queues and shows; the slot's lock in the source is what guards."""
    return f"pg_ingest_log_{source}"


def is_logged(replication: Replication) -> bool:
    """Whether the table is part of that step."""
    return replication.method is Method.LOG_BASED
