"""Everything this package raises on purpose.

The tree, in PostgreSQL's own style (a short factual message, a *detail* with the facts, a *hint* that
says what to do)::

    PgIngestError
    ├── PassingFault            heals by itself: Dagster retries
    │   ├── SourceUnreachable       the server cannot be reached, or the connection broke
    │   ├── SourceBusy              too many connections, a lock that is not granted in time
    │   │   └── StatementCancelled      a recovery conflict, a timeout: smaller statements may pass
    │   ├── DestinationBusy         another process holds the destination
    │   └── SlotBusy                another reader holds the replication slot
    └── PersonMustAct           does not heal: Dagster does not retry
        ├── ConfigError             the configuration file is wrong
        ├── LoginFailed             wrong user, password or database, or no entry in pg_hba.conf
        ├── HostKeyRefused          the SSH server's key is unknown, has changed or is revoked
        ├── TunnelRefused           the SSH server lets us in but not through to the database
        ├── PermissionMissing       a grant is missing
        ├── SourceTableChanged      a table, column or type is no longer what the configuration needs
        ├── QueryRefused            the server refuses a statement, e.g. a `where` that does not parse
        ├── BookmarkUnusable        a stored position does not fit the table or the method any more
        ├── KeyNotUnique            a declared key occurs more than once
        ├── TooManyRejected         more rows than `limits.max_rejected` cannot be stored
        ├── DestinationFailed       the destination refuses or cannot store (disk full, wrong type)
        ├── SlotUnusable            slot or publication is lost, foreign, or of another plugin
        ├── ChangeLogDamaged        a segment is missing or its checksum is wrong
        ├── ProtocolError           bytes from the server that the protocol does not allow
        └── MethodUnavailable       this method is not possible for this table or server

Every class has a section of its own in `docs/runbook.md`; a test says so.
No message ever carries a password or a row's values.
"""

from __future__ import annotations


class PgIngestError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what happened, one line, lower case, no full stop.
        detail: the facts (names, positions, the server's own words).
        hint: what to do about it.
    """

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.detail:
            lines.append(f"detail: {self.detail}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class PassingFault(PgIngestError):
    """Heals by itself; the same work may simply be tried again."""


class SourceUnreachable(PassingFault):
    """The server cannot be reached, or the connection broke."""


class SourceBusy(PassingFault):
    """The server is up but refuses for now: connections, locks, statements that it cancels."""


class StatementCancelled(SourceBusy):
    """The server did not let a statement run to its end: a recovery conflict, a timeout, an administrator."""


class DestinationBusy(PassingFault):
    """Another process holds the destination."""


class SlotBusy(PassingFault):
    """Another reader holds the replication slot."""


class PersonMustAct(PgIngestError):
    """Trying again changes nothing; somebody has to do what the hint says."""


class ConfigError(PersonMustAct):
    """The configuration file is wrong."""


class LoginFailed(PersonMustAct):
    """Wrong user, password or database, or no matching line in pg_hba.conf."""


class HostKeyRefused(PersonMustAct):
    """The SSH server's key is unknown, has changed or is revoked: it may be somebody else's server."""


class TunnelRefused(PersonMustAct):
    """The SSH server lets us in but forbids the connection to the database."""


class PermissionMissing(PersonMustAct):
    """A grant is missing."""


class SourceTableChanged(PersonMustAct):
    """A table, column or type is no longer what the configuration needs."""


class QueryRefused(PersonMustAct):
    """The server refuses a statement, for example a `where` that does not parse."""


class BookmarkUnusable(PersonMustAct):
    """A stored position does not fit the table or the method any more."""


class KeyNotUnique(PersonMustAct):
    """A declared key occurs more than once."""


class TooManyRejected(PersonMustAct):
    """More rows than `limits.max_rejected` cannot be stored."""


class DestinationFailed(PersonMustAct):
    """The destination refuses or cannot store."""


class SlotUnusable(PersonMustAct):
    """The slot or the publication is lost, somebody else's, or of another plugin."""


class ChangeLogDamaged(PersonMustAct):
    """A segment of the change log is missing or its checksum is wrong."""


class ProtocolError(PersonMustAct):
    """The server sent bytes that the protocol does not allow."""


class MethodUnavailable(PersonMustAct):
    """The method is not possible for this table or on this server."""
