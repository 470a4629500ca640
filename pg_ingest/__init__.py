"""Replicate PostgreSQL into an analytical store, as Dagster assets."""

__version__ = "0.1.0"
