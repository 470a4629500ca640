"""Where libpq connects to, which is not where the database is when a tunnel leads there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pg_ingest.config.model import SourceConfig


@contextmanager
def address(config: SourceConfig) -> Iterator[dict[str, Any]]:
    """libpq's parameters for the address; connect inside, the connection outlives the block.

    Through a tunnel `host` stays the database's own name, so that TLS checks it and `~/.pgpass` has it, and
    `hostaddr` is this end of the tunnel. Raises what `tunnel.passage` does.
    """
    if config.ssh is None:
        yield {"host": config.host, "port": config.port}
        return
    from pg_ingest.tunnel.passage import passage  # loads asyncssh: 0.3 s that others save

    seconds = config.limits.connect_timeout
    with passage(config.ssh, config.host, config.port, seconds=seconds) as way:
        name = "localhost" if config.host.startswith("/") else config.host
        yield {"host": name, "hostaddr": way.address, "port": way.port}
