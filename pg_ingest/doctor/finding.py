"""One thing that was looked at, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pg_ingest.errors import PgIngestError


class Verdict(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Test(StrEnum):
    """Every test by its lasting name; `docs/checks.md` has a section for each, and a test says so."""

    __test__ = False  # pytest takes classes of this name for its own

    # here
    WRITABLE = "writable"
    CONTENT = "content"
    DISK = "disk"
    PASSWORD = "password"
    # the way to the server
    TUNNEL = "tunnel"
    HOST = "host"
    POOLER = "pooler"
    ENCRYPTION = "encryption"
    LOGIN = "login"
    DATABASES = "databases"
    DATABASE = "database"
    CONNECT = "connect"
    # the server
    VERSION = "version"
    PROVIDER = "provider"
    ROLE = "role"
    CONNECTIONS = "connections"
    CLOCK = "clock"
    SPEED = "speed"
    STANDBY = "standby"
    # its log
    WAL_LEVEL = "wal-level"
    PENDING_RESTART = "pending-restart"
    SLOTS = "slots"
    SENDERS = "senders"
    SLOT_WAL_LIMIT = "slot-wal-limit"
    WAL_SENDER_TIMEOUT = "wal-sender-timeout"
    IDLE_TRANSACTIONS = "idle-transactions"
    PREPARED_TRANSACTIONS = "prepared-transactions"
    REPLICATION = "replication"
    STANDBY_LOG = "standby-log"
    # a database
    ENCODING = "encoding"
    SELECTION = "selection"
    TABLES = "tables"
    DEFAULT_PRIVILEGES = "default-privileges"
    PUBLICATION = "publication"
    PLUGIN = "plugin"
    SLOT = "slot"
    HEARTBEAT = "heartbeat"
    # a table
    TABLE = "table"
    SCHEMA_USAGE = "schema-usage"
    SELECT = "select"
    COLUMNS = "columns"
    ROW_SECURITY = "row-security"
    FILTER = "filter"
    QUERY = "query"
    KEY = "key"
    REPLICATION_KEY = "replication-key"
    ROW_VERSIONS = "row-versions"
    VISIBILITY_MAP = "visibility-map"
    KEY_ORDER = "key-order"
    REPLICA_IDENTITY = "replica-identity"
    PUBLISHED = "published"
    GENERATED_COLUMNS = "generated-columns"
    TOAST = "toast"
    METHOD = "method"
    NEXT_LOAD = "next-load"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one test.

    Attributes:
        subject: what was looked at: `destination`, `shop`, `shop/app`, `shop/app/public.orders`.
        test: which test; its name stays the same from version to version.
        fact: what was found, one line.
        detail, hint: as in errors; the hint is the exact step where there is one.
    """

    subject: str
    test: Test
    verdict: Verdict
    fact: str
    detail: str = ""
    hint: str = ""


def passed(subject: str, test: Test, fact: str) -> Finding:
    return Finding(subject, test, Verdict.PASSED, fact)


def warning(subject: str, test: Test, fact: str, hint: str = "", detail: str = "") -> Finding:
    return Finding(subject, test, Verdict.WARNING, fact, detail, hint)


def skipped(subject: str, test: Test, why: str) -> Finding:
    return Finding(subject, test, Verdict.SKIPPED, why)


def failed(subject: str, test: Test, error: PgIngestError) -> Finding:
    return Finding(subject, test, Verdict.FAILED, error.message, error.detail, error.hint)


def refused(subject: str, test: Test, fact: str, hint: str, detail: str = "") -> Finding:
    """A failure that no error was raised for."""
    return Finding(subject, test, Verdict.FAILED, fact, detail, hint)


def attempted(subject: str, test: Test, look: Callable[[], str]) -> Finding:
    """Passed with what `look` returns, failed with what it raises."""
    try:
        return passed(subject, test, look())
    except PgIngestError as error:
        return failed(subject, test, error)
