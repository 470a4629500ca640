"""xmin: the row versions that have been written since the last sync, told by the hidden column `xmin`.

Every row version carries the id of the transaction that wrote it. A sync takes a snapshot `S`, reads the
rows, and remembers `S.xmin`: the least id that was running then. The next one takes a snapshot `T` and reads
what `T` sees of transactions from `S.xmin` on.

*Claim.* A row version that `T` sees and `S` did not is among them. *Proof.* `S` did not see its writer: so
that one had not ended when `S` was taken, or had not begun. All ids below `S.xmin` had ended, so its id is
not below. A writer inside a subtransaction stamps rows with the subtransaction's id, which is greater than
the id of the transaction above it (`AssignTransactionId` in src/backend/access/transam/xact.c gives the
parents theirs first), and that one had not ended either. Prepared transactions count as running until they
are committed. A late commit::

    writer A                writer B                sync
    begins, id 100
                            id 101, commits
                                                    S.xmin = 100; sees 101; remembers 100
    commits
                                                    reads from 100 on: A's rows, and B's again

B's rows are read twice and found equal: not counted, not written. A row version that both see is the same in
both: it never changes, an UPDATE writes a new one. Locks (`FOR UPDATE`, multixacts) touch only `xmax`. What
changes what a row *shows* without a new version is looked for and makes all rows be read again: see
`outdated.why_everything`.

**On a standby** the snapshot does not list the primary's running transactions, but its xmin is the least of
those the standby knows of, and it knows all that have an id below any it has seen
(`RecordKnownAssignedTransactionIds` in src/backend/storage/ipc/procarray.c). So the proof holds. A standby
that is behind what was read elsewhere is not read (`SourceBusy`, tried again).

**32 bits and 64.** The column holds the low half of the id; the snapshot's are whole, with the epoch. "From
`S.xmin` on" is therefore a distance on a circle of 2^32: `(xmin - S.xmin) mod 2^32 < T.xmax - S.xmin`.
Whatever `T` sees has an id below `T.xmax`, so while the right side is at most 2^32 each new row version
passes, whether frozen or not. Others may pass too: a row frozen long ago whose id differs from a new one by
2^32. It is read again without need. After 2^31 ids without a sync all is read again. The ids 1 and 2
(bootstrap, and rows that a server before 9.4 froze) belong to no transaction that comes after a sync, so it
does not matter when they pass.

**Freezing** leaves the column as it is since 9.4: only bits beside it say "frozen". VACUUM FULL and CLUSTER
carry it over; an ALTER TABLE that rewrites gives all rows its own id. The other file says that one of them
was there, or TRUNCATE, which takes rows away: all is read again. Rows of a partition that was attached, made
or rewritten are read whole instead, however old they are.

**A server that crashes.** With `synchronous_commit = off` a snapshot sees commits that are not on disk. After
a crash they are gone, *and their ids are given out again*: new rows would carry ids below the position. So
the position counts only when the log is on disk up to the place where it was when the snapshot was taken:
then all ids below `S.xmin` that were used are in it, for each of them has ended and so has a commit or abort
record. It is there after three times `wal_writer_delay`, 0.6 s as a rule (`postgres/flushed.py`), and that is
waited for before anything is stored, so that no change is stored which the crash takes back. Where the server
takes more than two seconds, the position stays at the id of the last checkpoint, below which no id comes
again; an UPDATE that a crash takes back then stays stored until its row changes. A promotion that loses
transactions shows in the timeline, a restored backup in the timeline or in the counter; both make all rows be
read again.

**What it cannot see.** Deletes; so neither rows that stop passing the filter, nor the old key of a row whose
key changes (`delta_snapshot` finds all three). Rows that a filter lets in because of something other than the
row: time passing, a subquery. Another
function behind a type or a virtual column (a renamed label of an enum is noticed: `value_texts`). `pg_surgery`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pg_ingest.batch import Reading
from pg_ingest.config.selection import Replication
from pg_ingest.decode.types import arrow_schema
from pg_ingest.methods import changed_rows, unchanged_pages
from pg_ingest.methods.changed_rows import durably, first_position, planned, scope_of, started
from pg_ingest.methods.chunks import Beginning
from pg_ingest.methods.moment import at_one_moment
from pg_ingest.methods.request import Request
from pg_ingest.postgres.row_versions import server_of
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table


@contextmanager
def read(request: Request) -> Iterator[Reading]:
    """The rows written since the bookmark; all without one, with `reset`, or where it does not hold any more.

    Raises what `changed_rows.planned` and `started` raise.
    """
    session, replication, table = request.subject
    plan = planned(session, replication, table, request.window)
    server = server_of(session)
    mapped = unchanged_pages.position(session, replication, table)
    with at_one_moment(session, table) as moment:
        start = started(moment, plan, server, request.since)
        batches, note = moment.all_rows(plan.columns, plan.where), ""
        if start.old is not None:
            query, note = unchanged_pages.changed_rows(session, replication, plan, start)
            batches = moment.rows(query)
        reading = Reading(
            schema=arrow_schema(plan.columns),
            batches=iter(()),
            scope=scope_of(start, plan),
            bookmark=replace(start.now, mapped=mapped),
            phase="incremental" if start.old else "snapshot",
            position_from=str(start.old.xmin) if start.old else "",
            position_to=str(start.now.xmin),
            notes=[*start.notes, *filter(None, [note])],
        )
        reading.batches = durably(moment, start, reading, batches)
        yield reading


def beginning(session: Session, replication: Replication, table: Table) -> Beginning:
    """What the first load of the table reads in chunks; raises as `read` does."""
    plan = planned(session, replication, table)
    return changed_rows.beginning(plan, lambda: first_position(session, plan))
