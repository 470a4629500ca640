"""What following the log of a standby needs beyond what a primary's does."""

from __future__ import annotations

from pg_ingest.doctor.finding import Finding, Test, passed, refused, warning
from pg_ingest.postgres.protocol_slot import NUDGE
from pg_ingest.postgres.provider import Provider
from pg_ingest.postgres.server_state import ServerSettings
from pg_ingest.setup.steps import Setting, step

_IDLE = (
    "tables join when the primary says which transactions run: every 15 s while something is written there;"
    f" where it is idle, let {NUDGE} run there every minute (pg_cron)"
)


def check_standby_log(source: str, values: ServerSettings, provider: Provider) -> Finding:
    """Whether the primary keeps what the slots of its standby need."""
    if values.values.get("hot_standby_feedback") != "on":
        wanted = Setting("hot_standby_feedback", "on", "the primary keeps what our slots need")
        return refused(
            source,
            Test.STANDBY_LOG,
            "hot_standby_feedback is off: the primary's vacuum would take away rows of the catalogue that the"
            " standby's slots need, and they would be lost",
            f"on the standby, {step(wanted, provider)}",
            _IDLE,
        )
    if provider is Provider.PLAIN and not values.values.get("primary_slot_name"):
        return warning(
            source,
            Test.STANDBY_LOG,
            "the standby uses no slot of its primary: hot_standby_feedback holds only while it is connected",
            "on the primary: SELECT pg_create_physical_replication_slot('standby'); on the standby:"
            " ALTER SYSTEM SET primary_slot_name = 'standby'; SELECT pg_reload_conf();",
            _IDLE,
        )
    return passed(source, Test.STANDBY_LOG, f"hot_standby_feedback is on; {_IDLE}")
