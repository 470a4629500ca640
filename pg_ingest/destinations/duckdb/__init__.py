"""Tables in a DuckDB file."""

from pg_ingest.destinations.duckdb.destination import DuckDbDestination

__all__ = ["DuckDbDestination"]
