"""How long a standby lets a query be in the way of its replay, and what to change where that is short.

Sources: manual, "Hot Standby" and "Replication, Standby Servers"; Amazon, "Manage long-running read queries on
Amazon Aurora PostgreSQL-Compatible Edition"; Supabase, "Customizing Postgres configs".
"""

from __future__ import annotations

from pg_ingest.doctor.finding import Finding, Test, passed, warning
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server_state import ServerSettings
from pg_ingest.setup.steps import Setting, step

ENOUGH_MS = 300_000
"""A read of a large table takes minutes; a standby that cancels sooner cancels it again and again."""

AURORA_MOST_MS = 30_000
"""What Amazon lets the delay of a reader be."""

_WHY = "long reads are cancelled less often"
_FEEDBACK = Setting("hot_standby_feedback", "on", _WHY)
_STREAMING = Setting("max_standby_streaming_delay", "15min", _WHY)
_ARCHIVE = Setting("max_standby_archive_delay", "15min", _WHY)

_SMALLER = (
    "what is cancelled is tried again in smaller statements, but for full_table and tables without a key in an"
    " index (docs/runbook.md, StatementCancelled)"
)
_PRICE = (
    "feedback keeps dead rows at the primary while we read, a delay lets the standby fall behind;"
)


def check_patience(source: str, values: ServerSettings, provider: Provider) -> Finding:
    """Whether reads of minutes get to their end."""
    if provider is Provider.AURORA:
        return _aurora(source, values)
    feedback = values.values.get("hot_standby_feedback") == "on"
    streaming = values.number("max_standby_streaming_delay")
    archived = bool(values.values.get("restore_command"))
    archive = values.number("max_standby_archive_delay") if archived else None
    fact = f"hot_standby_feedback {'on' if feedback else 'off'}, max_standby_streaming_delay {_said(streaming)}"
    if archived:
        fact = f"{fact}, max_standby_archive_delay {_said(archive)}"
    if feedback:
        return passed(source, Test.STANDBY, f"{fact}: only replayed locks cancel a read")
    if _long(streaming) and _long(archive):
        return passed(source, Test.STANDBY, fact)
    short = [
        (name, limit)
        for name, limit in (("streamed", streaming), ("archived", archive))
        if not _long(limit)
    ]
    told = " and ".join(f"{_said(limit)} after {name} WAL arrived" for name, limit in short)
    return warning(
        source,
        Test.STANDBY,
        f"{fact}: a read that is in the way of replay is cancelled {told}",
        f"on the standby, {_ways(provider, streaming, archive)}",
        f"{_PRICE} {_SMALLER}",
    )


def _aurora(source: str, values: ServerSettings) -> Finding:
    delay = values.number("max_standby_streaming_delay") or 0
    fact = (
        "an Aurora reader: it shares the writer's storage, so a read that is in the way of a lock or of a page"
        f" in its cache is cancelled after {_said(delay)}"
    )
    if delay >= AURORA_MOST_MS:
        return passed(source, Test.STANDBY, f"{fact}, the most that Amazon allows")
    longest = Setting("max_standby_streaming_delay", str(AURORA_MOST_MS), _WHY)
    return warning(
        source,
        Test.STANDBY,
        fact,
        f"{step(longest, Provider.AURORA)}, the most that Amazon allows; or read from the writer or a clone",
        _SMALLER,
    )


def _ways(provider: Provider, streaming: int | None, archive: int | None) -> str:
    if provider is Provider.NEON:
        return "we know of nothing that could be set at Neon: ask its support, or read from the primary compute"
    delays = [
        step(setting, provider)
        for setting, limit in ((_STREAMING, streaming), (_ARCHIVE, archive))
        if not _long(limit)
    ]
    longer = " and ".join(delays)
    return longer if provider is Provider.SUPABASE else f"{step(_FEEDBACK, provider)} or: {longer}"


def _long(limit: int | None) -> bool:
    """-1 waits for ever; None where it does not matter."""
    return limit is None or limit < 0 or limit >= ENOUGH_MS


def _said(limit: int | None) -> str:
    if limit is None:
        return "unknown"
    return "for ever" if limit < 0 else f"{limit / 1000:g} s"
