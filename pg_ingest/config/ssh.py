"""The way to a source through SSH: one server, and those to go through before it.

Nothing here connects; `pg_ingest.tunnel` does. The model stands alone, so that others can nest it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)

from pg_ingest.config.host import checked_host
from pg_ingest.config.names import Name
from pg_ingest.config.paths import LocalPath, resolved
from pg_ingest.config.problem import Path as KeyPath
from pg_ingest.config.problem import Problem, refuse
from pg_ingest.config.schedule import Seconds
from pg_ingest.config.secret import Secret
from pg_ingest.config.strict import Strict, Whole

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}=?")
_SHA256_BYTES = 32


def _host(value: str) -> str:
    if value.startswith("/"):
        raise refuse("is a folder", "write the name or address of the SSH server", value=value)
    return checked_host(value)


def _fingerprint(value: str) -> str:
    if not _FINGERPRINT.fullmatch(value) or not _is_digest(value[7:50]):
        raise refuse(
            "is not a fingerprint",
            "write SHA256: and 43 characters, as `ssh-keygen -lf` prints them",
        )
    return value[:50]


def _is_digest(text: str) -> bool:
    try:
        return len(base64.b64decode(f"{text}=", validate=True)) == _SHA256_BYTES
    except binascii.Error:
        return False


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _key(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and "-----BEGIN" in value:
        raise refuse(
            "is the key itself",
            "write the path of its file, or {env: NAME} where a variable holds it",
            value="not shown",
        )
    if not isinstance(value, dict):
        return _path(value, info)
    try:
        return _SECRET.validate_python(value, context=info.context)
    except ValidationError as error:
        (details,) = error.errors(include_url=False, include_input=False)
        raise refuse(details["ctx"]["what"], details["ctx"]["remedy"]) from None


def _agent(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and "/" not in value:
        raise refuse("is neither true nor a path", "write true, or the path of the agent's socket")
    return value if isinstance(value, bool) else _path(value, info)


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path | Secret | None):
        raise refuse("is not a path", "write a path as text")
    if isinstance(value, str) and not value.strip():
        raise refuse("is empty", "write a path")
    return resolved(value, info) if isinstance(value, str | Path) else value


_SECRET: TypeAdapter[Secret] = TypeAdapter(Secret)

PrivateKey = Annotated[
    Path | Secret,
    BeforeValidator(_key, json_schema_input_type=str | Secret),
]
"""A file, or what holds the key itself."""

Agent = Annotated[Path | bool, BeforeValidator(_agent, json_schema_input_type=str | bool)]
"""`true`, `false`, or the path of a socket."""

Fingerprints = Annotated[
    tuple[Annotated[str, AfterValidator(_fingerprint)], ...],
    BeforeValidator(_several, json_schema_input_type=str | list[str]),
]
"""SHA-256 fingerprints of host keys, as ssh-keygen writes them; the file may name one or several."""


class SshServer(Strict):
    """One SSH server: who we are there, and how we know that it is the right one."""

    host: Annotated[str, AfterValidator(_host)] = Field(description="Name or address.")
    port: Whole = Field(default=22, ge=1, le=65535, description="Port.")
    user: Name = Field(description="User to log in as.")
    private_key: PrivateKey | None = Field(
        default=None, description="Key file (OpenSSH or PEM), or {env: NAME} that holds the key."
    )
    passphrase: Secret | None = Field(default=None, description="Of the private key.")
    certificate: LocalPath | None = Field(
        default=None, description="Certificate of the private key (…-cert.pub)."
    )
    agent: Agent | None = Field(
        default=None, description="true: the agent at SSH_AUTH_SOCK; or the path of its socket."
    )
    password: Secret | None = Field(default=None, description="The last resort.")
    known_hosts: LocalPath | None = Field(
        default=None, description="File of known host keys; without it those of ssh."
    )
    fingerprint: Fingerprints = Field(
        default=(), description="SHA256:… of the host key, or a list; instead of known_hosts."
    )

    @property
    def address(self) -> str:
        """`host:port`, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def agent_socket(self) -> Path | None:
        """The agent's socket where the configuration names it."""
        return self.agent if isinstance(self.agent, Path) else None

    @property
    def uses_agent(self) -> bool:
        """Whether an agent is asked: when it is named, or when there is nothing else to show."""
        if self.agent is None:
            return self.private_key is None and self.password is None
        return self.agent is not False


class SshConfig(SshServer):
    """The SSH server that reaches the database, and the servers on the way to it."""

    jump: tuple[SshServer, ...] = Field(
        default=(), max_length=8, description="Servers to go through first, in this order."
    )
    keepalive: Seconds = Field(
        default=15,
        ge=1,
        le=3600,
        description="Seconds (or 15s) of silence before the server is asked whether it lives.",
    )

    @property
    def hops(self) -> tuple[SshServer, ...]:
        """All servers in the order they are gone through, this one last."""
        return (*self.jump, self)


def ssh_problems(ssh: SshConfig, path: KeyPath) -> Iterator[Problem]:
    """What several keys of one server mean together; `path` leads to `ssh`."""
    yield from _server_problems(ssh, path)
    for at, server in enumerate(ssh.jump):
        yield from _server_problems(server, (*path, "jump", at))


def _server_problems(server: SshServer, path: KeyPath) -> Iterator[Problem]:
    for key in ("passphrase", "certificate"):
        if getattr(server, key) is not None and server.private_key is None:
            yield Problem(
                (*path, key),
                f"{key} belongs to a private key, and there is none",
                "write private_key beside it; an agent brings its certificates along",
                about=((*path, "private_key"),),
            )
    if server.fingerprint and server.known_hosts is not None:
        yield Problem(
            path,
            "has both known_hosts and fingerprint",
            "give one: a fingerprint is the only key that is taken",
            about=((*path, "fingerprint"), (*path, "known_hosts")),
        )
    if server.agent is False and server.private_key is None and server.password is None:
        yield Problem(
            path,
            "has nothing to log in with",
            "write private_key, or agent: true, or password",
            about=((*path, "private_key"), (*path, "password"), (*path, "agent")),
        )
