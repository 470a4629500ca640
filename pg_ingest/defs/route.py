"""The way from one source to the destination, as an asset's body needs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pg_ingest.config.model import IngestConfig, SourceConfig
from pg_ingest.config.redaction import redacted

if TYPE_CHECKING:
    from pg_ingest.destinations.destination import Destination
    from pg_ingest.postgres.server import Server


_PLACE = ("host", "port", "user", "password", "tls", "ssh", "limits")
"""What a resource says of a source: where it is and what may be asked of it, not what is replicated."""


@dataclass(frozen=True)
class Route:
    """One source of a configuration and that configuration's destination.

    Assets hold it by closure, so no secret enters Dagster's snapshots or run configuration. Driver
    and destination are imported when first used: a code location loads without them.
    """

    source: str
    config: IngestConfig

    @property
    def settings(self) -> SourceConfig:
        return self.config.sources[self.source]

    def reached_by(self, settings: SourceConfig) -> Route:
        """The same way, but to the server of those settings; itself where they are its own."""
        mine = self.settings
        place = {name: getattr(settings, name) for name in _PLACE}
        if all(getattr(mine, name) == value for name, value in place.items()):
            return self
        changed = {**self.config.sources, self.source: mine.model_copy(update=place)}
        return Route(self.source, self.config.model_copy(update={"sources": changed}))

    @property
    def pool(self) -> str:
        """Name of the concurrency pool of this destination: a DuckDB file has one writer."""
        destination = self.config.destination
        stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in destination.path.stem)
        return f"pg_ingest_{destination.type}_{stem}"

    @cached_property
    def server(self) -> Server:
        """One for the process, so that `limits.connections` holds for all its assets."""
        from pg_ingest.postgres.server import Server

        return Server(self.source, self.settings)

    @cached_property
    def destination(self) -> Destination:
        """The configuration's destination; it holds nothing open between calls."""
        from pg_ingest.destinations.connect import open_destination

        return open_destination(self.config.destination)

    def redact(self, text: str) -> str:
        """`text` without any secret that this process knows, wherever it came from."""
        settings = self.settings
        public = {self.source, settings.user, settings.host, *settings.databases}
        return redacted(text, public)
