"""Where libpq connects to, which is not where the database is when a tunnel leads there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pg_ingest.config.model import SourceConfig
from pg_ingest.errors import SourceUnreachable


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


@contextmanager
def blaming_tunnel(config: SourceConfig) -> Iterator[None]:
    """When a connection breaks inside because the tunnel did, let the error's detail say so and why."""
    began = time.monotonic()
    try:
        yield
    except SourceUnreachable as fault:
        if config.ssh is not None:
            from pg_ingest.tunnel.passage import loss_since  # see above

            loss = loss_since(config.ssh, began)
            if loss not in fault.detail:
                fault.detail = f"{loss}; {fault.detail}"
        raise
