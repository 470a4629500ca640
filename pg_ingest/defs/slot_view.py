"""One slot as it is seen now: what the sensor records of it, and what it warns of.

How old the oldest captured change is that a table has still to apply is known from our own side
(`changelog/applied.py`), so it is told also while the destination is held or down.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from pg_ingest.config.log import LogConfig
from pg_ingest.defs.log_names import change_log_key
from pg_ingest.defs.metadata import slot_metadata
from pg_ingest.defs.route import Route
from pg_ingest.defs.slot_echo import Sight
from pg_ingest.defs.wal_pace import Pace
from pg_ingest.errors import PgIngestError
from pg_ingest.table import TableId

if TYPE_CHECKING:
    from pg_ingest.changelog.applied import Waiting
    from pg_ingest.postgres.slot import Slot

SOON_SECONDS = 3600.0
"""A slot that is lost so soon, when nobody reads it, is worth a warning."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot as an observation shows it."""

    route: Route
    database: str
    slot: Slot
    sight: Sight
    pace: Pace

    @property
    def kept(self) -> int:
        """Bytes of WAL that the server cannot throw away."""
        return max(self.slot.behind, self.sight.lag)

    @property
    def lost_in(self) -> float | None:
        """Seconds until the slot is lost when nobody reads it."""
        return self.pace.seconds_until(self.slot.safe_wal_size)

    def metadata(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"pg_ingest/lag_bytes": self.sight.lag, **slot_metadata(self.slot)}
        ahead = {
            "wal_bytes_per_s": self.pace.rate,
            "lag_warn_in_s": self.pace.seconds_until(
                max(0, self.route.settings.log.lag_warn - self.kept)
            ),
            "slot_lost_in_s": self.lost_in,
        }
        known = {f"pg_ingest/{name}": value for name, value in ahead.items() if value is not None}
        return facts | {name: round(float(value), 1) for name, value in known.items()}


def observation(
    context: dg.SensorEvaluationContext, view: SlotView, tables: Sequence[TableId]
) -> dg.AssetObservation:
    from pg_ingest.changelog.applied import waiting
    from pg_ingest.following.capture_log import change_log

    metadata = view.metadata()
    warnings = [_warning(view)]
    route = view.route
    try:
        left = waiting(change_log(route.config.state_dir, route.source, view.database), tables)
        age = 0.0 if left.oldest is None else max(0.0, time.time() - left.oldest)
        metadata["pg_ingest/unapplied_rows"] = left.rows
        metadata["pg_ingest/oldest_unapplied_s"] = round(age, 1)
        warnings.append(_overdue(left, age, route.settings.log))
    except PgIngestError as error:
        warnings.append(route.redact(error.message))
    warning = "; ".join(filter(None, warnings))
    metadata["pg_ingest/severity"] = "warning" if warning else "fine"
    if warning:
        metadata["pg_ingest/warning"] = warning
        context.log.warning(f"{view.database}: {warning}")
    return dg.AssetObservation(
        asset_key=change_log_key(route.source), partition=view.database, metadata=metadata
    )


def _warning(view: SlotView) -> str:
    slot, log = view.slot, view.route.settings.log
    if slot.lost:
        return f"slot {slot.name} is lost: {slot.loss}"
    if slot.wal_status == "unreserved":
        return f"slot {slot.name} will be lost at the next checkpoint: max_slot_wal_keep_size is exceeded"
    if view.kept >= log.lag_warn:
        return f"the server keeps {view.kept:,} bytes of WAL for slot {slot.name}"
    if slot.safe_wal_size is not None and slot.safe_wal_size < log.lag_sync:
        return f"slot {slot.name} is lost after {slot.safe_wal_size:,} more bytes of WAL"
    if view.lost_in is not None and view.lost_in < SOON_SECONDS:
        return (
            f"slot {slot.name} is lost in {view.lost_in / 60:.0f} minutes if nobody reads it:"
            f" the server writes {view.pace.rate:,.0f} bytes of WAL a second"
        )
    return ""


def _overdue(left: Waiting, age: float, log: LogConfig) -> str:
    """Whoever has not applied for longer than changes are kept anyway has a failure that goes on."""
    if age <= max(log.keep.total_seconds(), SOON_SECONDS):
        return ""
    some = ", ".join(map(str, left.tables[:3])) + (", …" if len(left.tables) > 3 else "")
    return f"changes captured {age / 3600:.0f} hours ago are not applied yet to {some}"
