"""Whether a connection to a local port of ours comes from this very process.

A tunnel's port on 127.0.0.1 could be used by every user of the machine. A Unix socket in a private folder could
not, but libpq speaks no TLS over one. So each connection that comes in is looked up among the sockets that this
process has open: its other end is there, or it is a stranger's.
"""

from __future__ import annotations

import os
import resource
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_DESCRIPTORS = Path("/dev/fd")
"""The open files of this process, by number, on Linux and macOS alike."""

Address = tuple[Any, ...]


def is_ours(near: Address, far: Address) -> bool:
    """Whether this process holds the TCP socket that is bound to `near` and connected to `far`."""
    return any(_joins(each, near, far) for each in _open_files())


def _open_files() -> Iterable[int]:
    try:
        return [int(each.name) for each in _DESCRIPTORS.iterdir()]
    except OSError:  # no /proc: then every number that may be one
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _joins(descriptor: int, near: Address, far: Address) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        seen = socket.socket(fileno=descriptor)
    except OSError:
        return False  # closed in the meantime
    try:
        return bool(
            seen.family == socket.AF_INET
            and seen.type == socket.SOCK_STREAM
            and seen.getsockname() == near
            and seen.getpeername() == far
        )
    except OSError:
        return False  # not connected
    finally:
        seen.detach()  # it is not ours to close
