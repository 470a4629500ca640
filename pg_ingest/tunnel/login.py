"""One login at one SSH server: what it showed, what we showed, and what it said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import asyncssh

from pg_ingest.config.ssh import SshServer
from pg_ingest.tunnel.host_keys import KnownKeys, fingerprint


class Login(asyncssh.SSHClient):
    """The library asks it what to do, and it remembers the answers for the message of a failure.

    Each key is shown once, and the password once: by the method `password` or, where the server does not have
    it, as the answer to the only question of `keyboard-interactive`.

    Attributes:
        server: where.
        shown: the host key that is in no list, None when the server's key was trusted.
        shown_authority: the same for the authority that signed a host certificate.
        tried: what was shown, for people.
        offered: the methods that the server would take.
        lost: why the connection ended; None while it lives and when we ended it.
    """

    def __init__(
        self,
        server: SshServer,
        known: KnownKeys,
        keys: Sequence[asyncssh.SSHKeyPair],
        password: str | None,
        on_end: Callable[[Login], None],
    ) -> None:
        """`on_end` is called when the connection has ended, whoever ended it."""
        self.server = server
        self.shown: asyncssh.SSHKey | None = None
        self.shown_authority: asyncssh.SSHKey | None = None
        self.tried: list[str] = []
        self.offered: Sequence[str] = ()
        self.lost: Exception | None = None
        self._known = known
        self._keys = list(keys)
        self._password = password
        self._questions_asked = False
        self._on_end = on_end
        self._connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Remember the connection."""
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember the reason, and say that it ended."""
        self.lost = exc
        self._connection = None
        self._on_end(self)

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Asked for a key that is in no list: only a pinned one is right."""
        self.shown = key
        return fingerprint(key.public_data) in self._known.pinned

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked for an authority that is in no list: never."""
        self.shown_authority = key
        return False

    def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        """The next key."""
        self._listen()
        if not self._keys:
            return None
        key = self._keys.pop(0)
        kind = "certificate" if key.has_cert else "public key"
        self.tried.append(f"{kind} {fingerprint(key.key_public_data)}")
        return key

    def password_auth_requested(self) -> str | None:
        """The password, once."""
        self._listen()
        password, self._password = self._password, None
        if password is not None:
            self.tried.append("password")
        return password

    def kbdint_auth_requested(self) -> str | None:
        """Whether there is something to answer questions with; a server that asks none is asked once."""
        self._listen()
        first, self._questions_asked = not self._questions_asked, True
        return "" if first and self._password is not None else None

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """The password to a single question with a hidden answer; no answer to anything else."""
        if not prompts:
            return []
        if len(prompts) > 1 or prompts[0][1]:
            return None
        password = self.password_auth_requested()
        return None if password is None else [password]

    def _listen(self) -> None:
        if self._connection is not None and not self.offered:
            self.offered = tuple(self._connection.get_server_auth_methods())
