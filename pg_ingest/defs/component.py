"""`PostgresIngestComponent`: the same definitions inside somebody else's Dagster project."""

from pathlib import Path
from typing import Any

import dagster as dg

from pg_ingest.config.load import LoadedConfig, load_config, parse_config
from pg_ingest.defs.factory import build_definitions
from pg_ingest.defs.saved import saved_catalogs
from pg_ingest.errors import ConfigError


class PostgresIngestComponent(dg.Component, dg.Model, dg.Resolvable):
    """Replicates PostgreSQL databases as pg_ingest.yaml describes them.

    Attributes:
        config_path: the file, relative to the component's folder.
        config: the same settings written in place, as an alternative to `config_path`. Write
            secrets as `{env: NAME}` or `{file: path}`.
    """

    config_path: str | None = None
    config: dict[str, Any] | None = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions; connects to nothing. Raises ConfigError."""
        loaded = self.read(Path(context.path))
        return build_definitions(loaded, saved_catalogs(loaded))

    def read(self, folder: Path) -> LoadedConfig:
        """The configuration, with relative paths starting at `folder`."""
        match self.config_path, self.config:
            case str() as path, None:
                return load_config(folder / path)
            case None, dict() as data:
                return parse_config(data, folder=folder, name="component attributes")
        raise ConfigError(
            "the component needs exactly one of config_path and config",
            hint="write `config_path: pg_ingest.yaml` below `attributes:`",
        )
