"""Which transaction each message of a piece belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pg_ingest.decode.messages import Bytes, Integers, Messages, Transaction
from pg_ingest.decode.wire import broken, gather
from pg_ingest.lsn import Lsn

_BEGIN, _COMMIT = b"BC"
_BEGIN_SIZE, _COMMIT_SIZE = 21, 26
_WITHIN = np.isin(np.arange(256), np.frombuffer(b"BIUDTORY", dtype=np.uint8))
LSN_LIMIT = (1 << 63) - 1
"""Beyond it int64 ends; PostgreSQL would need millennia to get there."""


@dataclass(frozen=True, slots=True, eq=False)
class Transactions:
    """The transactions of a piece, number 0 being the one that was open before it.

    Attributes:
        of: per message, the number of its transaction.
        final_lsns, xids: per transaction.
        bases: per transaction, how many rows of this piece came before its first.
        rows_before: per message, how many rows of this piece came before it.
        open: the one that has not ended.
    """

    of: Integers
    final_lsns: Integers
    xids: Integers
    bases: Integers
    rows_before: Integers
    open: Transaction | None

    def sequence(self, indexes: Integers) -> Integers:
        """The number, within its transaction, of the first row of each of these messages."""
        numbers: Integers = self.rows_before[indexes] - self.bases[self.of[indexes]]
        return numbers


def follow(
    messages: Messages, tags: Bytes, rows: Integers, before: Transaction | None
) -> Transactions:
    """Tell each message its transaction; `rows` says how many rows each message has.

    Raises ProtocolError when Begin and Commit do not alternate, when a change lies outside, or
    when a Commit names another LSN than its Begin.
    """
    begins = tags == _BEGIN
    commits = tags == _COMMIT
    inside = check_order(begins, commits, _WITHIN[tags], tags, before)
    at = np.flatnonzero(begins)
    _check_sizes(messages, at, _BEGIN_SIZE)
    xids = gather(messages.buffer, messages.starts[at] + 17, ">u4").astype(np.int64)
    found = numbered(at, _lsns(messages, at, 1), xids, rows, inside, before)
    _check_commits(messages, np.flatnonzero(commits), found.final_lsns[found.of])
    return found


def numbered(
    begins: Integers,
    final_lsns: Integers,
    xids: Integers,
    rows: Integers,
    inside: Integers,
    before: Transaction | None,
) -> Transactions:
    """The transactions of a piece.

    Args:
        begins: the numbers of the Begin messages; `final_lsns` and `xids` are what they say.
        rows: per message, how many rows it has.
        inside: per message, 1 when a transaction is open behind it.
    """
    of = np.zeros(len(rows), dtype=np.int64)
    of[begins] = 1
    of = np.cumsum(of)
    carried = before or Transaction(Lsn(0), 0)
    rows_before = np.cumsum(rows) - rows
    final_lsns = _after(carried.final_lsn, final_lsns)
    xids = _after(carried.xid, xids)
    bases = _after(-carried.sequence, rows_before[begins])
    still_open = None
    if inside[-1] if len(inside) else before is not None:
        sequence = int(rows.sum()) - int(bases[-1])
        still_open = Transaction(Lsn(int(final_lsns[-1])), int(xids[-1]), sequence)
    return Transactions(of, final_lsns, xids, bases, rows_before, still_open)


def _after(first: int, others: npt.NDArray[np.generic]) -> Integers:
    return np.concatenate([np.array([first], dtype=np.int64), others.astype(np.int64)])


def _lsns(messages: Messages, indexes: Integers, offset: int) -> Integers:
    numbers = gather(messages.buffer, messages.starts[indexes] + offset, ">u8")
    too_big = numbers > LSN_LIMIT
    if too_big.any():
        raise broken(
            "a WAL position is impossible",
            index=int(indexes[np.argmax(too_big)]),
            position=offset,
        )
    return numbers.astype(np.int64)


def check_order(
    begins: npt.NDArray[np.bool_],
    commits: npt.NDArray[np.bool_],
    within: npt.NDArray[np.bool_],
    tags: Bytes,
    before: Transaction | None,
) -> Integers:
    """Per message, 1 when a transaction is open behind it (a Begin counts, a Commit does not).

    Raises ProtocolError when Begin and Commit do not alternate, or when a message that must be `within`
    a transaction (Begin and Commit among them) is not.
    """
    inside: Integers = np.cumsum(begins.astype(np.int64) - commits) + (before is not None)
    wrong = ((within | begins) & ~commits & (inside != 1)) | (commits & (inside != 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        where = "within a transaction" if inside[first] > 1 else "outside a transaction"
        raise broken(f"message {chr(tags[first])!r} {where}", index=first, position=0)
    return inside


def _check_sizes(messages: Messages, indexes: Integers, size: int) -> None:
    wrong = messages.lengths[indexes] != size
    if wrong.any():
        first = int(indexes[np.argmax(wrong)])
        got = int(messages.lengths[first])
        raise broken(f"the message must have {size} bytes, got {got}", index=first, position=0)


def _check_commits(messages: Messages, indexes: Integers, final_lsns: Integers) -> None:
    _check_sizes(messages, indexes, _COMMIT_SIZE)
    wrong = _lsns(messages, indexes, 2) != final_lsns[indexes]
    if wrong.any():
        raise broken(
            "a Commit names another WAL position than its Begin",
            index=int(indexes[np.argmax(wrong)]),
            position=2,
        )
    _lsns(messages, indexes, 10)
