"""The command line, one module per command; imported only when the command is used."""

from pg_ingest.cli.group import main

__all__ = ["main"]
