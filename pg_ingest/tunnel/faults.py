"""What a failure on the way through SSH means: each kind is another error, and says which server it was."""

from __future__ import annotations

import errno
import os
import re
import socket

import asyncssh

from pg_ingest.config.ssh import SshServer
from pg_ingest.errors import (
    HostKeyRefused,
    LoginFailed,
    PgIngestError,
    SourceUnreachable,
    TunnelRefused,
)
from pg_ingest.tunnel.host_keys import KnownKeys, described, fingerprint, line_to_add
from pg_ingest.tunnel.login import Login

_KEY_OF_THE_SERVER = "`ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub` at the server shows its own"
_TOO_MANY = "Too many authentication failures"


def login_fault(error: Exception, login: Login, known: KnownKeys, seconds: float) -> PgIngestError:
    """The error that a failed login at an SSH server stands for; `seconds` is how long it was given."""
    server = login.server
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return _host_key_refused(error, login, known)
        case asyncssh.PermissionDenied():
            return _login_failed(login, "")
        case asyncssh.DisconnectError() if _TOO_MANY in error.reason:
            return _login_failed(login, error.reason)
        case asyncssh.KeyExchangeFailed():
            return LoginFailed(
                f"the SSH server {server.address} and we have no algorithm in common",
                detail=error.reason,
                hint="its OpenSSH is probably very old: it has to be updated",
            )
        case TimeoutError():
            return SourceUnreachable(
                f"the SSH server {server.address} does not answer",
                detail=f"waited {seconds:g} s",
                hint="a firewall or security group on the way? `limits.connect_timeout` is how long it"
                " is awaited",
            )
        case asyncssh.DisconnectError():
            return SourceUnreachable(
                f"the SSH server {server.address} ended the connection before the login was done",
                detail=error.reason,
                hint="is `port` one of an SSH server? It is tried again; the server's log says why"
                " (MaxStartups, fail2ban, a full disk)",
            )
        case OSError():
            return _unreachable(error, server)
    return LoginFailed(
        f"no SSH connection to {server.address} can be made with these settings",
        detail=str(error),
        hint="see the detail; docs/ssh.md explains every key",
    )


def _unreachable(error: OSError, server: SshServer) -> SourceUnreachable:
    if isinstance(error, socket.gaierror):
        return SourceUnreachable(
            f"the SSH host {server.host} is not known",
            detail=str(error.strerror),
            hint="check `ssh.host`, and the name service of the machine this runs on",
        )
    if f"[Errno {errno.ECONNREFUSED}]" in str(error):  # of one address, or of several
        return SourceUnreachable(
            f"no SSH server listens on {server.address}",
            detail=_words(error),
            hint="check `ssh.host` and `ssh.port`, and that sshd runs there",
        )
    return SourceUnreachable(
        f"the SSH server {server.address} cannot be reached",
        detail=_words(error),
        hint="it is tried again; check the network between this machine and the server",
    )


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _login_failed(login: Login, said: str) -> LoginFailed:
    server = login.server
    facts = [f"tried: {', '.join(login.tried) or 'nothing'}"]
    if login.offered:
        facts.append(f"the server takes: {', '.join(login.offered)}")
    elif not login.tried:
        facts.append("the server takes none of public key, password and keyboard-interactive")
    if said:
        facts.append(f"it said: {said}")
    hint = (
        f"the key's public half belongs into ~/.ssh/authorized_keys of {server.user} there"
        " (`ssh-copy-id`); `ssh-keygen -lf` shows a key's fingerprint; a certificate may have expired"
    )
    if said:
        hint = "the agent holds more keys than the server lets us try: set `private_key` below ssh"
    elif login.tried == ["password"]:
        hint = "check the password; most servers want a key: set `private_key`"
    return LoginFailed(
        f"login refused for user {server.user} at the SSH server {server.address}",
        detail="; ".join(facts),
        hint=hint,
    )


def _host_key_refused(
    error: asyncssh.HostKeyNotVerifiable, login: Login, known: KnownKeys
) -> HostKeyRefused:
    server, key = login.server, login.shown
    looked = f"looked in {', '.join(map(str, known.files)) or 'no file, for there is none'}"
    if key is None:
        signer = login.shown_authority
        signed = f"; signed by {described([signer])}" if signer is not None else ""
        return HostKeyRefused(
            f"the host key of the SSH server {server.address} is refused",
            detail=f"{error.reason}{signed}; {looked}",
            hint="a revoked key, or a certificate that is expired or made for another name: ask the"
            " server's administrator",
        )
    own = _KEY_OF_THE_SERVER.format(re.sub("^ssh-|-.*", "", key.get_algorithm()))
    if known.pinned:
        return HostKeyRefused(
            f"the host key of the SSH server {server.address} is not the pinned one",
            detail=f"it shows {described([key])}; `fingerprint` is {', '.join(known.pinned)}",
            hint=f"{_CHANGED}; {own}. Only when it is the same: `fingerprint:"
            f" {fingerprint(key.public_data)}`",
        )
    if known.trusted:
        file = known.files[0]
        return HostKeyRefused(
            f"the host key of the SSH server {server.address} has changed",
            detail=f"it shows {described([key])}; known is {described(known.trusted)}; {looked}",
            hint=f"{_CHANGED}; {own}. Only when it is the same: replace its line in"
            f" {file} by `{line_to_add(server, key)}`",
        )
    signed = ", where only certificates are trusted for it" if known.authorities else ""
    listed = known.files[0] if known.files else "~/.ssh/known_hosts"
    return HostKeyRefused(
        f"the host key of the SSH server {server.address} is not known",
        detail=f"it shows {described([key])}; {looked}{signed}",
        hint=f"{own}. When it is the same, add this line to {listed}:"
        f" `{line_to_add(server, key)}`, or write `fingerprint: {fingerprint(key.public_data)}`",
    )


_CHANGED = (
    "the server was set up anew, or a load balancer stands in front of several with a key each (list all"
    " of them), or somebody is in between"
)


def passage_fault(
    error: asyncssh.ChannelOpenError, server: SshServer, host: str, port: int
) -> PgIngestError:
    """The error that a refused connection from an SSH server onwards stands for."""
    onwards = host if host.startswith("/") else f"{host}:{port}"
    if error.code == asyncssh.OPEN_CONNECT_FAILED:
        return SourceUnreachable(
            f"the SSH server {server.address} was reached, but {onwards} was not from there",
            detail=error.reason,
            hint="`host` and `port` are as the SSH server sees them: does the server run, does its"
            " firewall let the SSH server in?",
        )
    if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
        return TunnelRefused(
            f"the SSH server {server.address} does not let user {server.user} through to {onwards}",
            detail=error.reason,
            hint=f"its sshd_config needs `AllowTcpForwarding local`, and `PermitOpen {onwards}` if that"
            " is restricted; `no-port-forwarding` and `permitopen=` in authorized_keys count too",
        )
    return SourceUnreachable(
        f"the SSH server {server.address} opens no connection to {onwards}",
        detail=error.reason,
        hint="it is tried again",
    )


def passage_timeout(server: SshServer, host: str, port: int, seconds: float) -> SourceUnreachable:
    """The same for one that is not answered at all."""
    return SourceUnreachable(
        f"the SSH server {server.address} was reached, but {host}:{port} does not answer from there",
        detail=f"waited {seconds:g} s",
        hint="a firewall or security group between the SSH server and the database? `limits."
        "connect_timeout` is how long it is awaited",
    )
