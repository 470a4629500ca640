"""When a slot's lag is worth a run, and how a sensor keeps from answering its own echo.

Lag in bytes counts every write in the cluster: other databases', and, where Dagster keeps its events in the
same cluster, our own runs' events. A sensor that simply compared it with a threshold would answer its own
echo for ever. So it counts from where the log stood when it first saw the slot after a run had ended:
what the run itself wrote is not counted. And each capture that found no change doubles what it takes to ask
again, up to ECHO_LIMIT times: such runs only help the server to throw WAL away, which is not urgent before
`lag_warn`. Beyond `lag_warn` it asks whenever no run is under way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pg_ingest.config.log import LogConfig

ECHO_LIMIT = 16


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
