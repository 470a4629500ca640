"""What a repeatable-read transaction can see, in the server's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pg_ingest.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Anchor:
    """A snapshot with its place in the log: it sees exactly what committed before `lsn`. See `anchor.py`.

    Attributes:
        name: by which sessions in the same database take it over.
        lsn: it sees a transaction if the record of its commit begins before this position, and no other.
        asked_at: how far the log was when the snapshot was asked for. What ran there has ended before `lsn`.
    """

    name: str
    lsn: Lsn
    asked_at: Lsn


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent view of a database.

    Attributes:
        lsn: the WAL insert position directly after the snapshot was taken (on a standby the replayed one):
            every transaction it sees has committed before, but not every one committed before is seen. The
            write position would not do: with synchronous_commit off a commit is seen before it is written.
        taken_at: the server's time, ISO 8601, UTC.
        xmin: every transaction id below has ended, and is visible if it committed.
        xmax: no transaction id from here on is visible.
        in_progress: ids between the two that were still running, so are not visible; always empty on a
            standby, where the primary's running transactions are not listed.
        anchor: where it is one whose place in the log is known, which `lsn` then is.

    Ids are 64-bit (with epoch). Source: https://www.postgresql.org/docs/current/functions-info.html
    """

    lsn: Lsn
    taken_at: str
    xmin: int
    xmax: int
    in_progress: tuple[int, ...]
    anchor: Anchor | None = None

    @classmethod
    def parse(cls, lsn: str, taken_at: str, visible: str, *, anchor: Anchor | None = None) -> Self:
        """Build from texts; `visible` is `pg_snapshot`'s (`xmin:xmax:id,id`)."""
        xmin, xmax, running = visible.split(":")
        ids = tuple(int(one) for one in running.split(",") if one)
        place = Lsn.parse(lsn) if anchor is None else anchor.lsn
        return cls(place, taken_at, int(xmin), int(xmax), ids, anchor)


def snapshot_query(server_version: int, is_standby: bool) -> str:
    """The query whose row `Snapshot.parse` takes: the names changed in versions 10 and 13."""
    if server_version >= 100000:
        current, replayed = "pg_current_wal_insert_lsn()", "pg_last_wal_replay_lsn()"
    else:
        current = "pg_current_xlog_insert_location()"
        replayed = "pg_last_xlog_replay_location()"
    lsn = replayed if is_standby else current
    visible = "pg_current_snapshot()" if server_version >= 130000 else "txid_current_snapshot()"
    return (
        f"SELECT coalesce({lsn}::text, '0/0'),"
        " to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"'),"
        f" {visible}::text"
    )
