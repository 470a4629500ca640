"""Whether a crash of the server can take back what a snapshot has seen.

With `synchronous_commit = off` a commit is seen before it is on disk. A crash takes such commits away, and what
they used is given out again: transaction ids, and values of sequences. So what was seen may become a position
only when it is on disk.

The log is written up to the last such commit after three times `wal_writer_delay` at most
(https://www.postgresql.org/docs/current/wal-async-commit.html). What is unwritten on an idle server after that
is the end of a page on which no commit is.
"""

from __future__ import annotations

import time

from pg_ingest.lsn import Lsn
from pg_ingest.postgres import row_versions
from pg_ingest.postgres.session import Session

_PAUSE = 0.02

_DELAY = """
SELECT setting::float8 / 1000 FROM pg_catalog.pg_settings WHERE name = 'wal_writer_delay'
"""


def survives(session: Session, lsn: Lsn, patience: float) -> bool:
    """Whether every commit before `lsn` is on the server's disk, after waiting for it if need be.

    `patience`: seconds to wait at most. Waiting for as long as the server may leave a commit unwritten is as
    good as seeing that it is written.
    """
    begun = time.monotonic()
    longest: float | None = None
    while not row_versions.is_flushed(session, lsn):
        waited = time.monotonic() - begun
        if longest is None:
            ((delay,),) = session.rows(_DELAY, what="asking how the log is written")
            longest = 3 * float(delay)
        if waited >= min(longest, patience):
            return waited >= longest
        time.sleep(_PAUSE)
    return True
