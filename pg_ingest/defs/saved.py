"""What a code location needs from disk: the configuration and the saved catalogues."""

from __future__ import annotations

from pathlib import Path

from pg_ingest.catalog_file import load_catalog
from pg_ingest.config.load import LoadedConfig, load_config
from pg_ingest.table import SourceCatalog


def read_saved(path: Path | None = None) -> tuple[LoadedConfig, dict[str, SourceCatalog]]:
    """The configuration at `path` (see load_config) and the catalogues that discovery saved.

    Raises ConfigError for either; connects to nothing.
    """
    loaded = load_config(path)
    return loaded, saved_catalogs(loaded)


def saved_catalogs(loaded: LoadedConfig) -> dict[str, SourceCatalog]:
    """By source; a source that was never discovered is absent."""
    found = {name: load_catalog(loaded.config.state_dir, name) for name in loaded.config.sources}
    return {name: catalog for name, catalog in found.items() if catalog is not None}
