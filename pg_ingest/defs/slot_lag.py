"""The sensor `<source>_slot_lag`: how far each slot is behind, as a plot, and a sync when it is too far.

Lag in bytes counts every write in the cluster: other databases', and, where Dagster keeps its events in the
same cluster, our own runs' events. A sensor that simply compared it with a threshold would answer its own
echo for ever. So it counts from where the log stood when it first saw the slot after a run had ended:
what the run itself wrote is not counted. And each capture that found no change doubles what it takes to ask
again, up to ECHO_LIMIT times: such runs only help the server to throw WAL away, which is not urgent before
`lag_warn`. Beyond `lag_warn` it asks whenever no run is under way.

All slots are seen over one connection, because `pg_replication_slots` shows those of the whole cluster.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from pg_ingest.config.log import LogConfig
from pg_ingest.config.selection import Selection
from pg_ingest.defs.assets import DATABASE_TAG, SOURCE_TAG
from pg_ingest.defs.jobs import SyncJob
from pg_ingest.defs.log_names import change_log_key, is_logged
from pg_ingest.defs.metadata import slot_metadata
from pg_ingest.defs.processes import end_dead_runs
from pg_ingest.defs.route import Route
from pg_ingest.defs.schedules import UNFINISHED, known_databases
from pg_ingest.errors import PgIngestError, SourceUnreachable

if TYPE_CHECKING:
    from pg_ingest.postgres.slot import Slot

INTERVAL_SECONDS = 60
ECHO_LIMIT = 16

_PARTITION_TAG = "dagster/partition"


@dataclass(frozen=True, slots=True)
class Memory:
    """What the sensor remembers of a slot; positions in the log, in bytes.

    Attributes:
        confirmed: the slot's position when it was seen last.
        counted_from: what was written before does not count.
        asked: how many syncs have been asked for since the slot moved.
        quiet: how many captures in a row have found no change.
    """

    confirmed: int
    counted_from: int
    asked: int = 0
    quiet: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """One slot now: its position, the end of the log, and whether a run is at work on it.

    `rows`: how many changes the last capture found, None when nobody knows.
    """

    confirmed: int
    written: int
    running: bool = False
    rows: int | None = None

    @property
    def lag(self) -> int:
        """Bytes between the two."""
        return max(0, self.written - self.confirmed)


def judge(memory: Memory | None, sight: Sight, log: LogConfig) -> tuple[Memory, bool]:
    """What to remember, and whether to ask for a sync."""
    memory = memory or Memory(sight.confirmed, sight.confirmed)
    if sight.running:
        return memory, False
    if sight.confirmed != memory.confirmed:
        quiet = memory.quiet + 1 if sight.rows == 0 else 0
        memory = Memory(sight.confirmed, sight.written, quiet=quiet)
    wanted = log.lag_sync * min(2**memory.quiet, ECHO_LIMIT)
    if sight.written - memory.counted_from < wanted and sight.lag < log.lag_warn:
        return memory, False
    return replace(memory, counted_from=sight.written, asked=memory.asked + 1), True


def slot_lag_sensor(route: Route, job: SyncJob, selection: Selection) -> dg.SensorDefinition:
    """The sensor of one source with log-based tables; `job` is the one that syncs them."""
    log = route.settings.log
    keys = [
        change_log_key(route.source),
        *(dg.AssetKey(list(r.asset_key)) for r in job.replications if is_logged(r)),
    ]

    @dg.sensor(
        name=f"{route.source}_slot_lag",
        job_name=job.name,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Watches the replication slots of {route.source} and syncs before they fall behind.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        databases = known_databases(context.instance, route.source, selection)
        memories = _memories(context.cursor)
        end_dead_runs(context.instance, job.name)
        requests: list[dg.RunRequest] = []
        events: list[dg.AssetObservation] = []
        words: list[str] = []
        for database, found in _slots(route, databases):
            if not isinstance(found, tuple):
                words.append(route.redact(f"{database}: {found}"))
                continue
            slot, written = found
            sight = _sight(context.instance, route, database, slot, written)
            memories[database], asks = judge(memories.get(database), sight, log)
            events.append(_observation(context, route, database, slot, sight))
            if asks:
                requests.append(_request(route, database, memories[database], keys))
        cursor = json.dumps({name: asdict(memory) for name, memory in memories.items()})
        skip = None if requests else "\n".join(words) or "no slot is far behind"
        return dg.SensorResult(
            run_requests=requests, asset_events=events, cursor=cursor, skip_reason=skip
        )

    return look


def _memories(cursor: str | None) -> dict[str, Memory]:
    return {name: Memory(**fields) for name, fields in json.loads(cursor or "{}").items()}


def _slots(
    route: Route, databases: Sequence[str]
) -> "Iterator[tuple[str, tuple[Slot, int] | str | PgIngestError]]":
    """Each database with its slot and the end of the log, or why it is not known."""
    from pg_ingest.postgres.session import Server
    from pg_ingest.postgres.slot import flushed_lsn, read_slot

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


def _observation(
    context: dg.SensorEvaluationContext, route: Route, database: str, slot: "Slot", sight: Sight
) -> dg.AssetObservation:
    metadata: dict[str, Any] = {"pg_ingest/lag_bytes": sight.lag, **slot_metadata(slot)}
    warning = _warning(slot, sight, route.settings.log)
    metadata["pg_ingest/severity"] = "warning" if warning else "fine"
    if warning:
        metadata["pg_ingest/warning"] = warning
        context.log.warning(f"{database}: {warning}")
    return dg.AssetObservation(
        asset_key=change_log_key(route.source), partition=database, metadata=metadata
    )


def _warning(slot: "Slot", sight: Sight, log: LogConfig) -> str:
    if slot.lost:
        return f"slot {slot.name} is lost: the server has thrown away WAL that it needs"
    if slot.wal_status == "unreserved":
        return f"slot {slot.name} will be lost at the next checkpoint: max_slot_wal_keep_size is exceeded"
    kept = max(slot.behind, sight.lag)
    if kept >= log.lag_warn:
        return f"the server keeps {kept:,} bytes of WAL for slot {slot.name}"
    if slot.safe_wal_size is not None and slot.safe_wal_size < log.lag_sync:
        return f"slot {slot.name} is lost after {slot.safe_wal_size:,} more bytes of WAL"
    return ""


def _request(
    route: Route, database: str, memory: Memory, keys: Sequence[dg.AssetKey]
) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{route.source}_slot_lag/{database}/{memory.confirmed}/{memory.asked}",
        partition_key=database,
        asset_selection=list(keys),
        tags={DATABASE_TAG: database},
    )
