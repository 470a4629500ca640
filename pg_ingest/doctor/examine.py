"""All findings of a configuration, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pg_ingest.config.model import IngestConfig
from pg_ingest.doctor.destination import check_destination, check_state
from pg_ingest.doctor.finding import Finding
from pg_ingest.doctor.source import check_source


def examine(config: IngestConfig, sources: Sequence[str]) -> Iterator[Finding]:
    """The findings as they come: our own side first, then source by source. Nothing is changed anywhere."""
    yield from check_destination(config)
    yield from check_state(config)
    for source in sources:
        yield from check_source(config, source)
