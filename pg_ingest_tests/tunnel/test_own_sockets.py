"""Telling this process's connections from others."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pg_ingest.tunnel import own_sockets
from pg_ingest.tunnel.own_sockets import is_ours

CONNECT = (
    "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.recv(1)"
)


@pytest.mark.parametrize("listing", ["/dev/fd", "/nowhere"])
def test_ours_and_a_stranger(listing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_sockets, "_DESCRIPTORS", Path(listing))
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        here = server.getsockname()
        with closing(socket.create_connection(here)) as caller, closing(server.accept()[0]) as end:
            assert is_ours(end.getpeername(), end.getsockname())
            assert not is_ours(end.getpeername(), ("127.0.0.1", 1))
            assert caller.send(b"still open") == 10
            assert end.recv(10) == b"still open"
        stranger = subprocess.Popen([sys.executable, "-c", CONNECT, str(here[1])])
        with closing(server.accept()[0]) as end:
            assert not is_ours(end.getpeername(), end.getsockname())
        assert stranger.wait(20) == 0
