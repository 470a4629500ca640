"""What log-based replication asks of the server: its log, its places, and who holds the log back."""

from __future__ import annotations

from collections.abc import Iterator

from pg_ingest.config.log import Reader
from pg_ingest.config.model import SourceConfig
from pg_ingest.doctor.finding import Finding, Test, passed, refused, warning
from pg_ingest.doctor.standby import check_standby_log
from pg_ingest.postgres.faults import literal
from pg_ingest.postgres.privileges import grant_replication
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server_state import (
    OpenTransaction,
    Places,
    ServerSettings,
    idle_transactions,
    places_taken,
    prepared_transactions_seen,
    server_settings,
)
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.slot_creation import may_replicate
from pg_ingest.setup import steps
from pg_ingest.setup.steps import step

_PENDING = ("wal_level", "rds.logical_replication", "max_replication_slots", "max_wal_senders")


def check_wal(
    session: Session, settings: SourceConfig, provider: Provider, new_slots: int
) -> Iterator[Finding]:
    """Findings about the server of a source with log-based tables, which still needs `new_slots` slots."""
    source = session.source
    values, places = server_settings(session), places_taken(session)
    yield _wal_level(source, values, provider)
    yield from _pending(source, values, provider)
    joining = 1 if session.is_standby else 0
    yield _slots(source, values, places, provider, new_slots + joining)
    if settings.log.reader is Reader.STREAM or session.is_standby:
        yield _senders(source, values, places, provider, standby=session.is_standby)
    yield from _keeping(source, values, provider)
    if session.is_standby:
        yield check_standby_log(source, values, provider)
    yield _idle(session, settings)
    yield _prepared(session, settings)
    yield _replication(session, provider)


def _wal_level(source: str, values: ServerSettings, provider: Provider) -> Finding:
    level = values.values.get("wal_level", "unknown")
    if level == "logical":
        return passed(source, Test.WAL_LEVEL, "wal_level is logical")
    return refused(
        source,
        Test.WAL_LEVEL,
        f"the server's wal_level is {level}: its log does not hold what changed",
        step(steps.LOGICAL, provider),
    )


def _pending(source: str, values: ServerSettings, provider: Provider) -> Iterator[Finding]:
    waiting = sorted(values.pending & set(_PENDING))
    if waiting:
        yield warning(
            source,
            Test.PENDING_RESTART,
            f"a changed {', '.join(waiting)} waits for a restart of the server",
            steps.restart(provider),
        )
    else:
        yield passed(source, Test.PENDING_RESTART, "no setting waits for a restart")


def _slots(
    source: str, values: ServerSettings, places: Places, provider: Provider, wanted: int
) -> Finding:
    limit = values.number("max_replication_slots") or 0
    left = max(0, limit - places.slots)
    fact = f"{left} of {limit} replication slots are free, {wanted} will be made"
    if left >= wanted:
        return passed(source, Test.SLOTS, fact)
    more = step(steps.slots(places.slots + wanted + 2), provider)
    return refused(
        source,
        Test.SLOTS,
        fact,
        f"{more}; or drop what nobody needs: {_UNUSED_SLOTS}",
    )


_UNUSED_SLOTS = "SELECT slot_name, restart_lsn FROM pg_replication_slots WHERE NOT active;"


def _senders(
    source: str, values: ServerSettings, places: Places, provider: Provider, *, standby: bool
) -> Finding:
    limit = values.number("max_wal_senders") or 0
    left = max(0, limit - places.senders)
    fact = f"{left} of {limit} streams (max_wal_senders) are free"
    if left:
        return passed(source, Test.SENDERS, fact)
    more = step(steps.senders(places.senders + 4), provider)
    sql_reader = "" if standby else "; or set `log: {reader: sql}`"
    return refused(source, Test.SENDERS, fact, f"{more}{sql_reader}")


def _keeping(source: str, values: ServerSettings, provider: Provider) -> Iterator[Finding]:
    kept = values.number("max_slot_wal_keep_size")
    if kept is not None and kept < 0:
        yield warning(
            source,
            Test.SLOT_WAL_LIMIT,
            "max_slot_wal_keep_size is -1: a slot that nobody reads fills the server's disk",
            step(steps.KEEP, provider),
        )
    elif kept is not None:
        yield passed(source, Test.SLOT_WAL_LIMIT, f"max_slot_wal_keep_size is {kept:,} MB")
    timeout = values.number("wal_sender_timeout")
    if timeout == 0:
        yield warning(
            source,
            Test.WAL_SENDER_TIMEOUT,
            "wal_sender_timeout is 0: the server never notices that a reader is gone, whose slot stays"
            " taken and keeps the log; we answer its keep-alives, so 0 is not needed",
            step(steps.SENDER_TIMEOUT, provider),
        )
    elif timeout is not None:
        yield passed(source, Test.WAL_SENDER_TIMEOUT, f"wal_sender_timeout is {timeout / 1000:g} s")


def _idle(session: Session, settings: SourceConfig) -> Finding:
    patience = settings.limits.lock_timeout
    old, hidden = idle_transactions(session, patience)
    if old:
        pid = old[0].name
        return warning(
            session.source,
            Test.IDLE_TRANSACTIONS,
            f"{len(old)} sessions are idle in a transaction for more than {patience:g} s: {_named(old)}",
            f"end what was forgotten: SELECT pg_terminate_backend({pid}); and let the server do it:"
            " idle_in_transaction_session_timeout",
            _HOLDS_BACK,
        )
    fact = f"none idle for more than {patience:g} s"
    if hidden:
        fact += f" among those we may look at; {hidden} are hidden without pg_read_all_stats"
    return passed(session.source, Test.IDLE_TRANSACTIONS, fact)


_HOLDS_BACK = (
    "while one is open, the log from its begin is kept, vacuum removes nothing that it could still"
    " see, and a table that it wrote to cannot join"
)


def _prepared(session: Session, settings: SourceConfig) -> Finding:
    patience = settings.limits.lock_timeout
    old = prepared_transactions_seen(session, patience)
    if not old:
        fact = f"none prepared for more than {patience:g} s"
        return passed(session.source, Test.PREPARED_TRANSACTIONS, fact)
    name = literal(old[0].name)
    return warning(
        session.source,
        Test.PREPARED_TRANSACTIONS,
        f"{len(old)} transactions are prepared for more than {patience:g} s: {_named(old)}",
        f"in database {old[0].database}: COMMIT PREPARED {name}; or ROLLBACK PREPARED {name};",
        _HOLDS_BACK,
    )


def _named(found: list[OpenTransaction]) -> str:
    listed = [f"{one.name} (database {one.database}, role {one.role})" for one in found[:3]]
    return ", ".join(listed) + (" …" if len(found) > 3 else "")


def _replication(session: Session, provider: Provider) -> Finding:
    if may_replicate(session):
        return passed(session.source, Test.REPLICATION, "may read the log")
    return refused(
        session.source,
        Test.REPLICATION,
        f"user {session.role} may not read the log",
        grant_replication(session.role, provider),
    )
