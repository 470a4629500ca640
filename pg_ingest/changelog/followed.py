"""Which tables the change log follows, and since when.

A table is followed since a position when every transaction that a snapshot taken there or later cannot see is
in the log, with all it did to the table. Then a snapshot can join the log at any time. A table that leaves the
publication, is dropped and made anew, is missing in somebody else's publication for a while, or is published
with other columns, another filter or other operations, is not followed any more; when it comes back it is
followed since a later position, and what was stored from an earlier snapshot cannot go on from there: changes
in between were never captured.

So the entry of a table is removed, durably, *before* anything that ends or may end its membership, and
written only after it has joined for good. Whatever is killed in between, an entry never says too much.

`<change log>/followed.json`, changed only by who holds the slot's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from pg_ingest.changelog.durable import make_folder, sync_folder, write_file
from pg_ingest.changelog.log import ChangeLog
from pg_ingest.errors import ChangeLogDamaged
from pg_ingest.table import TableId

_FILE = "followed.json"


@dataclass(frozen=True, slots=True)
class Followed:
    """One table.

    Attributes:
        oid: its own; another table of the same name is not followed.
        since: the WAL position from which on it has been followed.
        asked: what the configuration asks for of its rows and columns, "" for all of them.
        listed, filter: whether it is published with a column list, and its row filter as the server prints it.
        mark: another text when changes of it may not be in the log: when the names under which they are logged
            may have been others (wal2json), or the publication may not have carried it all the time.
        unsettled: a transaction that began before `since` may still commit, as it was on a standby, where each
            snapshot waits for these itself (`postgres/anchor.py`).
    """

    table: TableId
    oid: int
    since: int
    asked: str = ""
    listed: bool = False
    filter: str | None = None
    mark: str = ""
    unsettled: bool = False


_ENTRIES = TypeAdapter(tuple[Followed, ...])


def read_followed(changelog: ChangeLog) -> dict[TableId, Followed]:
    """The tables that are followed; raises ChangeLogDamaged."""
    path = changelog.folder / _FILE
    try:
        entries = _ENTRIES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise ChangeLogDamaged(
            "the list of tables that the change log follows cannot be read",
            detail=f"{path}: {error.error_count()} problems",
            hint=f"remove {path.name}: the tables are then read anew",
        ) from None
    return {entry.table: entry for entry in entries}


def write_followed(changelog: ChangeLog, followed: Mapping[TableId, Followed]) -> None:
    """Replace the list, durably."""
    make_folder(changelog.folder)

    def fill(file: BinaryIO) -> None:
        file.write(_ENTRIES.dump_json(tuple(followed[table] for table in sorted(followed))))

    write_file(changelog.folder / _FILE, fill)
    sync_folder(changelog.folder)


def leave(changelog: ChangeLog, oids: Collection[int]) -> None:
    """These tables are not followed any more; whether they were does not matter."""
    followed = read_followed(changelog) if oids else {}
    kept = {table: entry for table, entry in followed.items() if entry.oid not in oids}
    if kept != followed:
        write_followed(changelog, kept)
