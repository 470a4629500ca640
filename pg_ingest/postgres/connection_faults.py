"""What a failed attempt to connect means.

libpq hands out only a text, without an SQLSTATE, and before the login the server's part of it is in the
server's own language. The English texts are recognised. With any other, a server that asked for a password
is taken to have refused it, and the rest is a passing fault with libpq's words as its detail.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from pg_ingest.errors import (
    LoginFailed,
    PermissionMissing,
    PgIngestError,
    SourceBusy,
    SourceUnreachable,
)
from pg_ingest.postgres.faults import TRY_LATER, one_line, quoted


@dataclass(frozen=True, slots=True)
class _Meaning:
    """A text of the server's or libpq's, and what it stands for.

    `message` and `hint` may hold {host}, {port}, {user}, {database} and, quoted for SQL, {role}, {db}.
    """

    pattern: str
    error: type[PgIngestError]
    message: str
    hint: str


_UNTRUSTED = r"certificate verify failed"

# The first that fits counts. With `prefer`, libpq tries twice and tells both: a server that refused the
# password over TLS may have no entry for a connection without, so the password comes first.

_MEANINGS = (
    _Meaning(
        r"no password supplied",
        LoginFailed,
        "the server on {host} wants a password of user {user}, and none is configured",
        "set `password` of this source, e.g. {{env: NAME}}",
    ),
    _Meaning(
        r"certificate authentication failed",
        LoginFailed,
        "our client certificate is not made out to user {user}",
        "its common name must be the role's (or mapped to it in the server's pg_ident.conf)",
    ),
    _Meaning(
        r"PAM authentication failed",
        LoginFailed,
        "login refused for user {user} on {host}",
        "with `rds_iam`: GRANT rds_iam TO {role}; and allow rds-db:connect for it; else check the password",
    ),
    _Meaning(
        r"authentication failed|role \".*\" does not exist|is not permitted to log in",
        LoginFailed,
        "login refused for user {user} on {host}",
        "check `user` and `password` of this source, and that the role exists and has LOGIN",
    ),
    _Meaning(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        LoginFailed,
        "pg_hba.conf on {host} has no entry for user {user}, database {database} and this machine",
        "add a line such as `hostssl {database} {user} <this machine>/32 scram-sha-256` and reload; if"
        " the detail says `no encryption`, the server wants TLS: `tls: {{mode: require}}`",
    ),
    _Meaning(
        r"database \".*\" does not exist",
        LoginFailed,
        "database {database} does not exist on {host}",
        "check `databases` of this source",
    ),
    _Meaning(
        r"not currently accepting connections",
        LoginFailed,
        "database {database} on {host} accepts no connections",
        "ALTER DATABASE {db} ALLOW_CONNECTIONS true; or leave it out of `databases`",
    ),
    _Meaning(
        r"permission denied for database",
        PermissionMissing,
        "user {user} may not connect to database {database}",
        "GRANT CONNECT ON DATABASE {db} TO {role};",
    ),
    _Meaning(
        r"to start (walsender|WAL sender)",
        PermissionMissing,
        "user {user} may not stream the log of database {database}",
        "ALTER ROLE {role} REPLICATION; (on Amazon RDS: GRANT rds_replication TO {role};), or set"
        " `log: {{reader: sql}}`",
    ),
    _Meaning(
        r"exceeds (the value of )?\"?max_wal_senders",
        SourceBusy,
        "the server on {host} has no place left for another reader of its log",
        "it is tried again; raise `max_wal_senders` if it recurs, or set `log: {{reader: sql}}`",
    ),
    _Meaning(
        r"too many (clients|connections)|remaining connection slots|no more connections allowed",
        SourceBusy,
        "the server on {host} has no connection left for user {user}",
        TRY_LATER,
    ),
    _Meaning(
        r"server does not support SSL",
        LoginFailed,
        "the server on {host} offers no TLS, and this connection requires it",
        "switch `ssl` on at the server; only inside a network you trust: `tls: {{mode: disable}}`",
    ),
    _Meaning(
        r"certificate for .* does not match host name",
        LoginFailed,
        "the certificate of the server is not made out to {host}",
        "let `host` be one of the names in the certificate (an alias or address is not enough for mode"
        " verify-full)",
    ),
    _Meaning(
        r"root certificate file .* does not exist|could not read root certificate file",
        LoginFailed,
        "there are no root certificates to verify {host} with",
        "set `tls.root_cert` of this source: a PEM file, or `system` for those of this machine",
    ),
    _Meaning(
        r"alert certificate revoked",
        LoginFailed,
        "the server on {host} says that our client certificate was revoked",
        "ask for a new one: `tls.client_cert` and `tls.client_key` of this source",
    ),
    _Meaning(
        r"alert certificate expired",
        LoginFailed,
        "the server on {host} says that our client certificate has expired",
        "ask for a new one: `tls.client_cert` and `tls.client_key` of this source",
    ),
    _Meaning(
        r"alert (unknown ca|bad certificate|unsupported certificate|certificate unknown)",
        LoginFailed,
        "the server on {host} does not know who signed our client certificate",
        "`tls.client_cert` must be signed by an authority in the server's `ssl_ca_file`",
    ),
    _Meaning(
        r"requires a valid client certificate",
        LoginFailed,
        "the server on {host} wants a client certificate of user {user}",
        "set `tls.client_cert` and `tls.client_key` of this source",
    ),
    _Meaning(
        r"private key file .* has group or world access",
        LoginFailed,
        "the private key of our client certificate can be read by others",
        "chmod 600 the file at `tls.client_key`, and let it belong to the user that runs this",
    ),
    _Meaning(
        r"private key file .*key values mismatch",
        LoginFailed,
        "the private key is not that of the client certificate",
        "check `tls.client_cert` and `tls.client_key` of this source",
    ),
    _Meaning(
        r"private key file .*(bad decrypt|bad password)",
        LoginFailed,
        "the private key of our client certificate is encrypted, and its password is missing or wrong",
        "check `tls.client_key_password` of this source",
    ),
    _Meaning(
        r"could not load private key file",
        LoginFailed,
        "the private key of our client certificate cannot be read",
        "`tls.client_key` may be PEM or PKCS#8 DER; `openssl pkey -in <file> -noout` says whether it is",
    ),
    _Meaning(
        r"not private key file",
        LoginFailed,
        "the private key of our client certificate is not there",
        "check `tls.client_key` of this source",
    ),
    _Meaning(
        r"protocol version|unsupported protocol|no protocols available",
        LoginFailed,
        "the server on {host} speaks no version of TLS that we accept",
        "let the server speak TLS 1.2 or newer; `tls.min_version` lowers what is accepted, as far as this"
        " machine's OpenSSL allows",
    ),
    _Meaning(
        _UNTRUSTED,
        LoginFailed,
        "the certificate of {host} is not accepted",
        "check `tls` of this source: root_cert must have signed the server's certificate",
    ),
    _Meaning(
        r"certificate|private key|SSL error|tlsv1|sslv3|sslmode",
        LoginFailed,
        "the TLS connection to {host} is refused",
        "check `tls` of this source: root_cert must have signed the server's certificate, and mode"
        " verify-full wants `host` to be the name in it",
    ),
    _Meaning(
        r"failed to resolve host|could not translate host name|name or service not known"
        r"|nodename nor servname|name resolution",
        SourceUnreachable,
        "the host {host} is not known",
        "check `host` of this source, and the name service of the machine this runs on",
    ),
    _Meaning(
        r"connection refused",
        SourceUnreachable,
        "nothing listens on {host} port {port}",
        "check `host` and `port`, that the server runs, and its `listen_addresses`",
    ),
    _Meaning(
        r"timeout expired|timed out",
        SourceUnreachable,
        "{host} port {port} does not answer",
        "a firewall or security group on the way? `limits.connect_timeout` is how long it is awaited",
    ),
    _Meaning(
        r"starting up|shutting down|in recovery mode|not (yet )?accepting connections",
        SourceUnreachable,
        "the server on {host} port {port} is not ready",
        "it is tried again",
    ),
    _Meaning(
        r"no such file or directory",
        SourceUnreachable,
        "no server listens on port {port} of the socket folder {host}",
        "check `host` and `port`, and that the server runs",
    ),
)


def connection_fault(
    error: psycopg.Error,
    *,
    host: str,
    port: int,
    user: str,
    database: str,
    look: Callable[[], PgIngestError | None] = lambda: None,
) -> PgIngestError:
    """The error that a failed attempt to connect stands for.

    `look` says more about a certificate that was not accepted, if it can.
    """
    said = one_line(str(error))
    names = {"host": host, "port": port, "user": user, "database": database}
    names |= {"role": quoted(user), "db": quoted(database)}
    if re.search(_UNTRUSTED, said) and (seen := look()) is not None:
        return seen
    for meaning in _MEANINGS:
        if re.search(meaning.pattern, said, re.IGNORECASE):
            message, hint = meaning.message.format(**names), meaning.hint.format(**names)
            return meaning.error(message, detail=said, hint=hint)
    if error.pgconn is not None and (error.pgconn.used_password or error.pgconn.needs_password):
        return LoginFailed(
            f"login refused for user {user} on {host}",
            detail=said,
            hint="check `user` and `password` of this source",
        )
    return SourceUnreachable(
        f"no connection to {host} port {port}", detail=said, hint="it is tried again"
    )
