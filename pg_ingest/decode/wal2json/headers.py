"""What stands before a message's columns: the kind of change, transaction, position, table.

With the options that `plugins.Wal2Json` asks for, every message begins

    {"action":"I","xid":753,"lsn":"0/1A2B3C","schema":"public","table":"t"

and, at the begin and the end of a transaction,

    {"action":"B","xid":753,"lsn":"0/1A2B3C","nextlsn":"0/1A2B88"}

where `lsn` is that of the commit record and `nextlsn` is where that record ends. Nothing else is allowed here.

Facts: pg_decode_begin_txn_v2, pg_decode_commit_txn_v2, pg_decode_write_change in wal2json.c, 2.5 and 2.6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from pg_ingest.decode.messages import Bytes, Integers, Messages, Transaction
from pg_ingest.decode.transactions import LSN_LIMIT, Transactions, check_order, numbered
from pg_ingest.decode.tuples import Values, as_text
from pg_ingest.decode.wal2json.tokens import Mask, Tokens, byte_at, has
from pg_ingest.errors import ProtocolError
from pg_ingest.table import TableId

BEGIN, COMMIT, INSERT, UPDATE, DELETE, TRUNCATE, MESSAGE = b"BCIUDTM"

_KNOWN = np.isin(np.arange(256), np.frombuffer(b"BCIUDTM", dtype=np.uint8))
_WITHIN = np.isin(np.arange(256), np.frombuffer(b"IUDT", dtype=np.uint8))
_OPENING = b'{"action":"'
_TAG_AT = len(_OPENING)
_XID = b'","xid":'
_XID_AT = _TAG_AT + 1 + len(_XID)
_XID_QUOTES = 6
"""Quotes before `"lsn"`: those of `"action":"I"` and `"xid"`."""

_HEX = np.full(256, -1, dtype=np.int64)
_HEX[list(b"0123456789")] = range(10)
_HEX[list(b"ABCDEF")] = range(10, 16)
_HEX[list(b"abcdef")] = range(10, 16)
_HALF = 8
"""Digits on each side of an LSN's slash, at most."""

_ROWS_EACH = 2
"""Numbers for an update's old and new row; a message that needs fewer leaves some out."""


def tags_of(tokens: Tokens) -> Bytes:
    """The kind of each message; raises ProtocolError for one that does not begin as it should."""
    everyone = np.arange(len(tokens.messages))
    starts = tokens.messages.starts
    opened = tokens.has(_OPENING, starts, everyone)
    tokens.check(opened, everyone, starts, "a message is not JSON of wal2json's format version 2")
    at = starts + _TAG_AT
    tags = byte_at(tokens.messages.buffer, at)
    tokens.check(_KNOWN[tags], everyone, at, "unknown message")
    followed = tokens.has(_XID, at + 1, everyone)
    tokens.check(followed, everyone, at + 1, "a message does not tell its transaction")
    return tags


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Begin or Commit messages: where they are, and what they say.

    Attributes:
        indexes: their numbers.
        lsns, next_lsns: of the commit record's begin and end.
    """

    indexes: Integers
    xids: Integers
    lsns: Integers
    next_lsns: Integers


def ends_of(tokens: Tokens, tags: Bytes, tag: int) -> Ends:
    """All messages of that kind, `BEGIN` or `COMMIT`."""
    indexes = np.flatnonzero(tags == tag)
    quote = tokens.first[indexes] + _XID_QUOTES
    xids = _xids(tokens, indexes, tokens.quote(quote) - 1)
    lsns, quote = _lsns(tokens, indexes, quote, b'"lsn":"', b'","next')
    next_lsns, _ = _lsns(tokens, indexes, quote, b'"nextlsn":"', b'"}')
    return Ends(indexes, xids, lsns, next_lsns)


def follow(tokens: Tokens, tags: Bytes, before: Transaction | None) -> Transactions:
    """Tell each message its transaction; raises ProtocolError as `decode.transactions.follow`."""
    begins, commits = ends_of(tokens, tags, BEGIN), ends_of(tokens, tags, COMMIT)
    inside = check_order(tags == BEGIN, tags == COMMIT, _WITHIN[tags], tags, before)
    rows = np.full(len(tags), _ROWS_EACH, dtype=np.int64)
    found = numbered(begins.indexes, begins.lsns, begins.xids, rows, inside, before)
    of = found.of[commits.indexes]
    same = (commits.lsns == found.final_lsns[of]) & (commits.xids == found.xids[of])
    tokens.check(
        same,
        commits.indexes,
        tokens.messages.starts[commits.indexes],
        "a Commit names another WAL position or transaction than its Begin",
    )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Which table each of some messages is about.

    Attributes:
        indexes: the messages' numbers.
        codes: per message, the place of its table in `names`.
        at, quotes: per message, the place behind the table's name, and the number of the next quote.
    """

    indexes: Integers
    codes: Integers
    names: list[TableId]
    at: Integers
    quotes: Integers


def tables_of(tokens: Tokens, tags: Bytes) -> Tables:
    """The tables of all messages about tables; raises ProtocolError."""
    kinds = np.frombuffer(b"IUDT", dtype=np.uint8)
    indexes = np.flatnonzero(np.isin(tags, kinds))
    quote = tokens.first[indexes] + _XID_QUOTES
    _check_lsn(tokens, indexes, quote)
    schema = tokens.quote(quote + 4)
    tokens.check(tokens.has(b'"schema":"', schema, indexes), indexes, schema, "no schema is named")
    begin = tokens.quote(quote + 6)
    middle = tokens.quote(quote + 7)
    named = tokens.has(b'","table":"', middle, indexes)
    tokens.check(named, indexes, middle, "no table is named")
    end = tokens.quote(quote + 11) + 1
    tokens.check(end < tokens.limits[indexes], indexes, middle, "the table's name does not end")
    if not len(indexes):
        return Tables(indexes, indexes, [], end, quote)
    # from the schema's opening quote to the table's closing one: the same bytes for the same table
    texts = as_text(tokens.messages.buffer, Values(begin, end, None, None), "a table's name")
    encoded = texts.dictionary_encode()
    names = [_table_id(text) for text in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy().astype(np.int64)
    return Tables(indexes, codes, names, end, quote + 12)


def _table_id(text: str) -> TableId:
    """From `"public","table":"t"`."""
    decoder = json.JSONDecoder()
    try:
        schema, end = decoder.raw_decode(text)
        _, end = decoder.raw_decode(text, end + 1)
        name, _ = decoder.raw_decode(text, end + 1)
    except ValueError as error:
        raise ProtocolError("a table's name cannot be read", detail=text) from error
    return TableId(schema, name)


def change_lsns(tokens: Tokens, indexes: Integers) -> list[bytes]:
    """The `lsn` texts of a few messages: that of the change's own record."""
    quote = tokens.first[indexes] + _XID_QUOTES
    places = zip(tokens.quote(quote + 2).tolist(), tokens.quote(quote + 3).tolist(), strict=True)
    return [tokens.messages.buffer[begin + 1 : end].tobytes() for begin, end in places]


def _check_lsn(tokens: Tokens, indexes: Integers, quote: Integers) -> None:
    at = tokens.quote(quote)
    tokens.check(tokens.has(b'"lsn":"', at, indexes), indexes, at, "no WAL position is named")


def _xids(tokens: Tokens, indexes: Integers, ends: Integers) -> Integers:
    starts = tokens.messages.starts[indexes] + _XID_AT
    sizes = ends - starts
    good = (sizes > 0) & (sizes <= 10) & (ends < tokens.limits[indexes])
    tokens.check(good, indexes, starts, "no transaction id is named")
    number = np.zeros(len(indexes), dtype=np.int64)
    for place in range(int(sizes.max(initial=0))):
        within = place < sizes
        digits = byte_at(tokens.messages.buffer, starts + place).astype(np.int64) - ord("0")
        good = ~within | ((digits >= 0) & (digits <= 9))
        tokens.check(good, indexes, starts, "a transaction id is not a number")
        number = np.where(within, number * 10 + digits, number)
    return number


def _lsns(
    tokens: Tokens, indexes: Integers, quote: Integers, key: bytes, after: bytes
) -> tuple[Integers, Integers]:
    """The LSNs whose key begins at quote number `quote`, and the number of the quote after them."""
    at = tokens.quote(quote)
    good = tokens.has(key, at, indexes)
    ends = tokens.quote(quote + 3)
    good &= tokens.has(after, ends, indexes)
    tokens.check(good, indexes, at, "no WAL position is named")
    number = np.zeros(len(indexes), dtype=np.int64)
    shift = np.zeros(len(indexes), dtype=np.int64)
    halves = np.zeros(len(indexes), dtype=np.int64)
    begins = at + len(key)
    good = ends - begins <= 2 * _HALF + 1
    for back in range(1, int(np.max(np.where(good, ends - begins, 0), initial=0)) + 1):
        byte = byte_at(tokens.messages.buffer, ends - back)
        within = ends - back >= begins
        slash = within & (byte == ord("/"))
        digit = _HEX[byte]
        good &= ~within | slash | ((digit >= 0) & (shift < 32 * (halves + 1)))
        number += np.where(within & ~slash & good, digit << np.minimum(shift, 60), 0)
        halves += slash
        shift = np.where(slash, 32, shift + 4)
    good &= (halves == 1) & (number >= 0) & (number <= LSN_LIMIT)
    tokens.check(good, indexes, at, "a WAL position is impossible")
    return number, quote + 4


def commits(messages: Messages) -> Integers:
    """The numbers of the Commit messages."""
    return np.flatnonzero(_are(messages, COMMIT))


def begins(messages: Messages) -> tuple[Integers, Integers]:
    """The numbers of the Begin messages and the positions of the Commits that they announce."""
    found = np.flatnonzero(_are(messages, BEGIN))
    some = Messages(messages.buffer, messages.starts[found], messages.lengths[found])
    tokens = Tokens.of(some)
    return found, ends_of(tokens, tags_of(tokens), BEGIN).lsns


def _are(messages: Messages, tag: int) -> Mask:
    text = _OPENING + bytes([tag])
    found: Mask = has(messages.buffer, text, messages.starts, messages.starts + messages.lengths)
    return found
