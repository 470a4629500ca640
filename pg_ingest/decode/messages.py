"""What the messages of logical replication say, as values.

Names and fields are those of the manual, "Logical Replication Message Formats".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pg_ingest.lsn import Lsn
from pg_ingest.table import ReplicaIdentity, TableId

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

SYSTEM_COLUMNS = (
    "_pgi_lsn",
    "_pgi_sequence",
    "_pgi_xid",
    "_pgi_op",
    "_pgi_whole",
    "_pgi_unchanged",
)
"""What stands before a table's own columns in `Changes.rows`, and is described there."""

UNSAID = "_pgi_unsaid"
"""Stands behind the system columns where the plugin cannot say everything, described there as well."""

UNKNOWN_MODIFIER = -2
"""The modifier of a column whose type was told without it."""

RESERVED = "_pgi_"
"""A table's own columns whose names begin with this are not in `Changes.rows`."""


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """Some messages in the order in which the server sent them, in one buffer.

    Attributes:
        buffer: under 2 GiB; may hold other bytes between the messages.
        starts, lengths: of each message, in bytes; messages do not overlap, starts ascend.
    """

    buffer: Bytes
    starts: Integers
    lengths: Integers

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, payloads: Sequence[bytes]) -> Messages:
        """Put messages that lie apart into one buffer."""
        lengths = np.fromiter(map(len, payloads), dtype=np.int64, count=len(payloads))
        buffer = np.frombuffer(b"".join(payloads), dtype=np.uint8)
        return cls(buffer, np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A published column; `identity` when it is part of the replica identity."""

    name: str
    type_oid: int
    modifier: int
    identity: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A published table as it was when the changes after this message happened."""

    oid: int
    id: TableId
    identity: ReplicaIdentity
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class TypeName:
    """A type that is not built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction came from another server: its commit LSN there and that server's name."""

    commit_lsn: Lsn
    name: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """One TRUNCATE; the rows of `changes` with op `t` say the same per table."""

    commit_lsn: Lsn
    relations: tuple[TableId, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class LogicalMessage:
    """What somebody wrote with `pg_logical_emit_message`."""

    lsn: Lsn
    transactional: bool
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction whose Commit has not been read yet; `sequence` numbers its next row."""

    final_lsn: Lsn
    xid: int
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class JsonColumn:
    """A column as wal2json lists it; `position` is its `attnum`."""

    position: int
    name: str
    type_oid: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What wal2json lists of a relation that stores rows: columns by position, names of the identity."""

    columns: tuple[JsonColumn, ...]
    identity: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """The identity is the whole row."""
        return len(self.identity) == len(self.columns)


@dataclass(frozen=True, slots=True)
class State:
    """What the messages read so far mean for those to come.

    `relations` is what pgoutput announced, `layouts` what wal2json showed, both by the relation's oid.
    """

    relations: Mapping[int, Relation] = field(default_factory=lambda: MappingProxyType({}))
    transaction: Transaction | None = None
    layouts: Mapping[int, Layout] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Row changes of one table while it had one shape.

    One row per tuple that the server sent, in the order of (`_pgi_lsn`, `_pgi_sequence`), which is
    unique and total over all tables. An update that sent an old tuple is two rows: `b` and `u`.

    Attributes:
        rows: `_pgi_lsn` (int64, commit LSN), `_pgi_sequence` (int64, in the transaction),
            `_pgi_xid` (int64, the 32 bits of the transaction id), `_pgi_op`: `i` insert, `u` new
            row of an update, `b` its old key or row, `d` old key or row of a delete, `t` truncate;
            `_pgi_whole` (bool): the tuple has every column, not just those of the replica identity;
            `_pgi_unchanged` (list of column names, null for none): values that the server left out
            because they are stored out of line and did not change; perhaps `_pgi_unsaid` (list of column
            names, null for none): values that are null here and may be NULL, NaN or infinite; then the
            relation's columns as PostgreSQL's texts.
    """

    relation: Relation
    rows: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one piece of the log says.

    Attributes:
        changes: per table and shape; the shapes of one table in the order of the log.
        state: pass it on with the next piece.
        commits: how many transactions ended in this piece.
        commit_lsn, end_lsn: of the last of them, None without one.
        unclear: oids of relations of which the log did not tell enough; they must be read anew.
    """

    changes: tuple[Changes, ...]
    state: State
    commits: int
    commit_lsn: Lsn | None
    end_lsn: Lsn | None
    truncates: tuple[Truncate, ...] = ()
    messages: tuple[LogicalMessage, ...] = ()
    origins: tuple[Origin, ...] = ()
    types: tuple[TypeName, ...] = ()
    unclear: frozenset[int] = frozenset()
