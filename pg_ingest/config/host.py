"""Whether a text can be a host, and what to do when it is more than one."""

from __future__ import annotations

import ipaddress
import re

from pg_ingest.config.problem import refuse

_WITH_PORT = re.compile(r"(\[[^\]]+\]|[^:\s]+):(\d+)")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return False
    return True


def checked_host(host: str) -> str:
    """The host: a name, an IPv4 or IPv6 address, or the folder of a Unix socket.

    Raises a refusal when a port, a URL, a user or several hosts are in it.
    """
    if host.startswith("/") or _is_address(host):
        return host
    if "://" in host or "@" in host or "=" in host:
        raise refuse(
            "is a connection string",
            "write its parts: host, port, user, password, databases",
            value="not shown, it may hold a password",
        )
    match = _WITH_PORT.fullmatch(host)
    if match:
        raise refuse(
            "contains a port", f"write `host: {match[1].strip('[]')}` and `port: {match[2]}`"
        )
    if host.startswith("[") and host.endswith("]") and _is_address(host[1:-1]):
        raise refuse("has brackets", f'write `host: "{host[1:-1]}"`')
    if not host or re.search(r"[\s,:/\\]", host):
        raise refuse("is not one host", "write one name, address or socket folder")
    return host
