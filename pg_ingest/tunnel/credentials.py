"""What we show an SSH server: private keys from a file or a secret, those of an agent, a password."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from pg_ingest.config.secret import Secret
from pg_ingest.config.ssh import SshServer
from pg_ingest.errors import ConfigError, LoginFailed

_FORMATS = "OpenSSH's own and PEM are read; a PuTTY key is converted with `puttygen KEY.ppk -O private-openssh`"

_ENCRYPTED = b"ENCRYPTED"
"""In the head of a PEM file; where it stands, a wrong passphrase may look like a damaged key."""


def own_keys(server: SshServer) -> list[asyncssh.SSHKeyPair]:
    """The configured private key, with its certificate first where it has one; else none.

    Secrets are read anew: a tunnel is opened seldom, and they may have been rotated. Deriving a key from a
    passphrase takes a noticeable time, so this does not belong into an event loop.
    Raises ConfigError for what cannot be read, LoginFailed for a wrong passphrase.
    """
    if server.private_key is None:
        return []
    place, data = _key_data(server.private_key)
    passphrase = server.passphrase.reveal(fresh=True) if server.passphrase else None
    try:
        key = asyncssh.import_private_key(data, passphrase)
    except asyncssh.KeyEncryptionError as error:
        raise _locked(server, place, str(error)) from None
    except asyncssh.KeyImportError as error:
        if _ENCRYPTED in data or "assphrase" in str(error):
            raise _locked(server, place, str(error)) from None
        raise ConfigError(
            f"the private key in {place} is not one that can be read",
            detail=str(error),
            hint=_FORMATS,
        ) from None
    certificates = _certificates(server, key)
    return list(asyncssh.load_keypairs([key], certlist=certificates))


def _locked(server: SshServer, place: str, detail: str) -> LoginFailed:
    return LoginFailed(
        f"the private key in {place} cannot be decrypted",
        detail=detail,
        hint="set `passphrase` beside `private_key`, e.g. {env: NAME}; `ssh-keygen -y -f KEY` tries one"
        if server.passphrase is None
        else f"check the passphrase in {server.passphrase.place}; `ssh-keygen -y -f KEY` tries one",
    )


def _key_data(private_key: Path | Secret) -> tuple[str, bytes]:
    if isinstance(private_key, Secret):
        text = private_key.reveal(fresh=True).strip()
        if "\n" not in text:
            text = text.replace("\\n", "\n")  # how a variable of one line holds several
        return private_key.place, f"{text}\n".encode()
    return str(private_key), _read(private_key, "private key")


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the {what} {file} cannot be read",
            detail=str(error.strerror),
            hint="check the path, and that this user may read the file",
        ) from None


def _certificates(server: SshServer, key: asyncssh.SSHKey) -> Sequence[asyncssh.SSHCertificate]:
    """The configured certificate, or the one beside the key's file as `ssh` finds it."""
    file = server.certificate
    if file is None and isinstance(server.private_key, Path):
        beside = server.private_key.with_name(f"{server.private_key.name}-cert.pub")
        file = beside if beside.exists() else None
    if file is None:
        return ()
    try:
        certificate = asyncssh.import_certificate(_read(file, "certificate"))
    except asyncssh.KeyImportError as error:
        raise ConfigError(
            f"{file} is not a certificate",
            detail=str(error),
            hint="it is the file ending in -cert.pub that `ssh-keygen -s` made",
        ) from None
    if certificate.key.public_data != key.public_data:
        raise ConfigError(
            f"the certificate {file} belongs to another key than `private_key`",
            hint="`ssh-keygen -L -f` shows whose it is",
        )
    return (certificate,)


@dataclass(slots=True)
class Agent:
    """An open connection to an agent, and the keys it holds; `close` it after the login."""

    keys: list[asyncssh.SSHKeyPair]
    client: asyncssh.SSHAgentClient | None = None

    async def close(self) -> None:
        """End the connection; does nothing when there is none."""
        if self.client is not None:
            self.client.close()
            await self.client.wait_closed()


async def asked_agent(server: SshServer) -> Agent:
    """The agent's keys, none when the configuration does not want an agent; raises LoginFailed."""
    if not server.uses_agent:
        return Agent([])
    place = str(server.agent_socket or "")
    try:
        client = await asyncssh.connect_agent(place)
    except OSError as error:
        raise LoginFailed(
            f"no SSH agent answers at {place or 'SSH_AUTH_SOCK'}",
            detail=str(error.strerror or error),
            hint="start one (`eval $(ssh-agent)`, `ssh-add KEY`), or set `private_key` below ssh",
        ) from None
    try:
        return Agent(list(await client.get_keys()), client)
    except (ValueError, OSError) as error:
        client.close()
        raise LoginFailed(
            f"the SSH agent at {place or 'SSH_AUTH_SOCK'} shows no keys",
            detail=str(error),
            hint="`ssh-add -l` lists them; it may be locked",
        ) from None
