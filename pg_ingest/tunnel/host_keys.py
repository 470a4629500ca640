"""Which host keys are trusted: those of known_hosts files, or the pinned ones; nothing else.

A name is looked up as it is written, never by the address it resolves to: somebody who can answer for the name
service could otherwise send us to any host that we happen to know. The port belongs to the name unless it is
22, and a line without it is looked at second, as `ssh` does. An entry `@revoked` wins over all others.

Format: https://man.openbsd.org/sshd.8#SSH_KNOWN_HOSTS_FILE_FORMAT
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from pg_ingest.config.ssh import SshServer
from pg_ingest.errors import ConfigError

log = logging.getLogger(__name__)

USERS_FILE = "~/.ssh/known_hosts"
MACHINES_FILE = "/etc/ssh/ssh_known_hosts"

_STANDARD_PORT = 22

_PLAIN = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_CERTIFIED = tuple(f"{name}-cert-v01@openssh.com" for name in _PLAIN)


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What we know about one server.

    Attributes:
        trusted: host keys.
        authorities: keys whose certificates for this host are trusted.
        revoked: keys never to be trusted.
        pinned: fingerprints; where there are any, they alone count.
        files: where it was looked up.
    """

    trusted: tuple[asyncssh.SSHKey, ...] = ()
    authorities: tuple[asyncssh.SSHKey, ...] = ()
    revoked: tuple[asyncssh.SSHKey, ...] = ()
    pinned: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def algorithms(self) -> list[str]:
        """The host key algorithms to ask for: first those that we can judge, then the other plain ones.

        The others too, so that a server which has changed its kind of key is refused as changed.
        """
        known = {name.decode() for key in self.trusted for name in key.sig_algorithms}
        plain = sorted(_PLAIN, key=lambda name: name not in known)
        return [*(_CERTIFIED if self.authorities else ()), *plain]

    def entries(self) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        """As the library wants them: host keys, authorities, revoked."""
        return list(self.trusted), list(self.authorities), list(self.revoked)


def known_keys(server: SshServer) -> KnownKeys:
    """Look the server up; raise ConfigError when the file that the configuration names cannot be read."""
    if server.fingerprint:
        return KnownKeys(pinned=server.fingerprint)
    files = _files(server)
    entries = asyncssh.SSHKnownHosts()
    for file in files:
        _load(entries, file)
    host = server.host.lower()
    bare = entries.match(host, "", None)
    exact = bare
    if server.port != _STANDARD_PORT:
        exact = entries.match(f"[{host}]:{server.port}", "", None)
    found = exact if exact[0] or exact[1] else bare
    revoked = {*exact[2], *bare[2]}
    return KnownKeys(tuple(found[0]), tuple(found[1]), tuple(revoked), (), files)


def _files(server: SshServer) -> tuple[Path, ...]:
    if server.known_hosts is not None:
        return (server.known_hosts,)
    usual = (Path(os.path.expanduser(USERS_FILE)), Path(MACHINES_FILE))  # noqa: PTH111  without a home, no error
    return tuple(file for file in usual if os.access(file, os.R_OK))


def _load(entries: asyncssh.SSHKnownHosts, file: Path) -> None:
    """Line by line: as with `ssh`, one that is not understood does not hide the others."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(
            f"the known_hosts file {file} cannot be read",
            detail=str(error.strerror),
            hint="make it with `ssh-keyscan HOST`, and compare the fingerprint with the server's own",
        ) from None
    for number, line in enumerate(lines, 1):
        try:
            entries.load(line)
        except ValueError:
            log.warning("%s line %d is no entry of a known_hosts file", file, number)


def fingerprint(public_data: bytes) -> str:
    """`SHA256:…` of a public key in SSH's wire form, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(public_data).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def described(keys: Iterable[asyncssh.SSHKey]) -> str:
    """`ssh-ed25519 SHA256:…` of each, for people."""
    return ", ".join(f"{key.get_algorithm()} {fingerprint(key.public_data)}" for key in keys)


def line_to_add(server: SshServer, key: asyncssh.SSHKey) -> str:
    """The line of a known_hosts file that trusts this key."""
    host = server.host.lower()
    if server.port != _STANDARD_PORT:
        host = f"[{host}]:{server.port}"
    return f"{host} {key.export_public_key('openssh').decode().strip()}"
