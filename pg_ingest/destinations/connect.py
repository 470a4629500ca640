"""From the configuration's `destination` to the destination itself."""

from __future__ import annotations

from pg_ingest.config import model
from pg_ingest.destinations.destination import Destination
from pg_ingest.destinations.duckdb import DuckDbDestination


def open_destination(config: model.DuckDbDestination) -> Destination:
    """The destination that the configuration names. Nothing is opened or made before its first use."""
    return DuckDbDestination(config.path)
