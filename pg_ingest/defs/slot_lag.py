"""The sensor `<source>_slot_lag`: how far each slot is behind, as a plot, and a sync when it is too far.

All slots are seen over one connection, because `pg_replication_slots` shows those of the whole cluster.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from pg_ingest.config.selection import Selection
from pg_ingest.defs.assets import DATABASE_TAG, SOURCE_TAG
from pg_ingest.defs.jobs import SyncJob
from pg_ingest.defs.log_names import change_log_key, is_logged
from pg_ingest.defs.processes import end_dead_runs
from pg_ingest.defs.quiet import patient
from pg_ingest.defs.route import Route
from pg_ingest.defs.schedules import UNFINISHED, known_databases
from pg_ingest.defs.slot_echo import Memory, Sight, judge
from pg_ingest.defs.slot_view import SlotView, observation
from pg_ingest.defs.wal_pace import Pace
from pg_ingest.errors import PgIngestError, SourceUnreachable

if TYPE_CHECKING:
    from pg_ingest.postgres.slot import Slot

INTERVAL_SECONDS = 60
_PARTITION_TAG = "dagster/partition"


def slot_lag_sensor(route: Route, job: SyncJob, selection: Selection) -> dg.SensorDefinition:
    """The sensor of one source with log-based tables; `job` is the one that syncs them."""
    log = route.settings.log
    keys = [
        change_log_key(route.source),
        *(dg.AssetKey(list(r.asset_key)) for r in job.replications if is_logged(r)),
    ]

    tables = [r.table for r in job.replications if is_logged(r)]

    @dg.sensor(
        name=f"{route.source}_slot_lag",
        job_name=job.name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Watches the replication slots of {route.source} and syncs before they fall behind.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = time.time()
        databases = known_databases(context.instance, route.source, selection)
        cursor = _Cursor.parse(context.cursor)
        end_dead_runs(context.instance, job.name)
        requests: list[dg.RunRequest] = []
        events: list[dg.AssetObservation] = []
        words: list[str] = []
        for database, found in _slots(route, databases):
            if not isinstance(found, tuple):
                words.append(route.redact(f"{database}: {found}"))
                continue
            slot, written = found
            pace = cursor.look(written, now)
            sight = _sight(context.instance, route, database, slot, written)
            memory, asks = judge(cursor.slots.get(database), sight, patient(route, log))
            cursor.slots[database] = memory
            events.append(
                observation(context, SlotView(route, database, slot, sight, pace), tables)
            )
            if asks:
                requests.append(_request(route, database, memory, keys))
        skip = None if requests else "\n".join(words) or "no slot is far behind"
        return dg.SensorResult(
            run_requests=requests, asset_events=events, cursor=cursor.dump(), skip_reason=skip
        )

    return look


@dataclass(slots=True)
class _Cursor:
    """What the sensor remembers from one tick to the next; the log is one for all slots of a server."""

    slots: dict[str, Memory] = field(default_factory=dict)
    pace: Pace | None = None

    @classmethod
    def parse(cls, text: str | None) -> "_Cursor":
        """From Dagster's cursor; what another version wrote is forgotten, which costs a figure or a run."""
        try:
            found = json.loads(text or "{}")
            slots = {name: Memory(**fields) for name, fields in found.get("slots", {}).items()}
            pace = found.get("pace")
            return cls(slots, None if pace is None else Pace(**pace))
        except (ValueError, TypeError, AttributeError):
            return cls()

    def look(self, written: int, now: float) -> Pace:
        """The pace with what this tick, begun at `now`, has seen."""
        self.pace = Pace(written, now) if self.pace is None else self.pace.seen(written, now)
        return self.pace

    def dump(self) -> str:
        slots = {name: asdict(memory) for name, memory in self.slots.items()}
        return json.dumps({"slots": slots, "pace": self.pace and asdict(self.pace)})


def _slots(
    route: Route, databases: Sequence[str]
) -> "Iterator[tuple[str, tuple[Slot, int] | str | PgIngestError]]":
    """Each database with its slot and the end of the log, or why it is not known."""
    from pg_ingest.postgres.log_end import flushed_lsn
    from pg_ingest.postgres.server import Server
    from pg_ingest.postgres.slot import read_slot

    server = Server(route.source, route.settings, retry_delays=())
    for number, database in enumerate(databases):
        try:
            with server.session(database, purpose="sensor") as session:
                written = int(flushed_lsn(session))
                for other in databases[number:]:
                    slot = read_slot(session, route.settings.log.slot_name(other))
                    yield other, "it has no slot yet" if slot is None else (slot, written)
                return
        except PgIngestError as error:
            yield database, error
            if isinstance(error, SourceUnreachable):
                return


def _sight(
    instance: dg.DagsterInstance, route: Route, database: str, slot: "Slot", written: int
) -> Sight:
    runs = instance.get_runs(
        dg.RunsFilter(tags={SOURCE_TAG: route.source}, statuses=UNFINISHED), limit=1000
    )
    running = any(database in (r.tags.get(DATABASE_TAG), r.tags.get(_PARTITION_TAG)) for r in runs)
    return Sight(
        int(slot.confirmed_lsn or 0), written, running, _last_rows(instance, route, database)
    )


def _last_rows(instance: dg.DagsterInstance, route: Route, database: str) -> int | None:
    last = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=change_log_key(route.source), asset_partitions=[database]),
        limit=1,
    )
    for record in last.records:
        materialization = record.asset_materialization
        rows = materialization and materialization.metadata.get("pg_ingest/rows")
        return int(rows.value) if rows and isinstance(rows.value, int) else None
    return None


def _request(
    route: Route, database: str, memory: Memory, keys: Sequence[dg.AssetKey]
) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{route.source}_slot_lag/{database}/{memory.confirmed}/{memory.asked}",
        partition_key=database,
        asset_selection=list(keys),
        tags={DATABASE_TAG: database},
    )
