"""What became of a table's partitions since it was read, and whether that means reading it again."""

from __future__ import annotations

from collections.abc import Sequence

from pg_ingest.bookmark import Partition
from pg_ingest.postgres.partitions import with_older_rows
from pg_ingest.postgres.session import Session
from pg_ingest.table import Table, TableId


def came_with_rows(
    session: Session, table: Table, known: Sequence[Partition], now: Sequence[Partition]
) -> str:
    """Which partitions have been attached with rows in them, in words; empty for none."""
    here = {_place(partition) for partition in known}
    came = [partition for partition in now if _place(partition) not in here]
    found = with_older_rows(session, table, came)
    return f"attached with rows: {_listed(found)}" if found else ""


def went_or_emptied(known: Sequence[Partition], now: Sequence[Partition]) -> str:
    """Whether partitions are gone, or have other files than before, in words; empty for neither.

    Another file is that of a partition that was truncated by itself, or rewritten; the two look the same.
    """
    files = {_place(partition): partition.file for partition in now}
    gone = sum(_place(partition) not in files for partition in known)
    other = sum(files.get(_place(one), one.file) != one.file for one in known)
    words = []
    if gone:
        words.append(f"detached or dropped: {gone}")
    if other:
        words.append(f"truncated or rewritten: {other}")
    return ", ".join(words)


def _place(partition: Partition) -> tuple[int, int]:
    return partition.oid, partition.attached


def _listed(tables: Sequence[TableId]) -> str:
    return ", ".join(map(str, tables[:5])) + (", …" if len(tables) > 5 else "")
