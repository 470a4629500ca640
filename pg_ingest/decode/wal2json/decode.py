"""From messages of wal2json to `Decoded`: the very same rows as `decode.pgoutput` makes.

What the plugin does not say by itself comes from two sides: which relation a name means, which root its rows
belong to and which columns are generated, from the catalogue (`Listed`); which columns a message left out, from
the layouts before it (`layout`). What neither can tell is not guessed: such a relation is `unclear`.

A truncate comes once for each relation. That of a partition is the truncate of its root if the root has one of
the same record; a partition that was truncated alone makes its root unclear, as the log does not list its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from pg_ingest.decode.messages import (
    Bytes,
    Changes,
    Decoded,
    Integers,
    Layout,
    LogicalMessage,
    Messages,
    Relation,
    State,
)
from pg_ingest.decode.transactions import Transactions
from pg_ingest.decode.wal2json import headers
from pg_ingest.decode.wal2json.blocks import Block, Listed, blocks_of, joined, truncated
from pg_ingest.decode.wal2json.headers import Tables
from pg_ingest.decode.wal2json.layout import Unclear
from pg_ingest.decode.wal2json.rows import Listings, read_all
from pg_ingest.decode.wal2json.tokens import Tokens
from pg_ingest.decode.wire import broken
from pg_ingest.lsn import Lsn
from pg_ingest.table import TableId


def decode(
    messages: Messages, state: State, listed: Mapping[TableId, Listed], *, says_all: bool
) -> Decoded:
    """Decode the next piece of a log; raise ProtocolError for what wal2json does not write.

    Args:
        state: has a layout for every relation that stores rows and a shape for every root of `listed`.
        listed: by the name in the messages; those of other relations are passed over.
        says_all: the plugin was asked for `numeric-data-types-as-string`; without that, null may mean NaN.

    Memory: about 60 bytes for each value of the piece on top of the piece itself.
    """
    tokens = Tokens.of(messages)
    tags = headers.tags_of(tokens)
    transactions = headers.follow(tokens, tags, state.transaction)
    run = _Run(tokens, tags, transactions, state, listed, says_all)
    run.read(headers.tables_of(tokens, tags))
    commits = headers.ends_of(tokens, tags, headers.COMMIT)
    return Decoded(
        changes=tuple(run.changes()),
        state=State(
            MappingProxyType({**state.relations, **run.relations}),
            transactions.open,
            MappingProxyType({**state.layouts, **run.layouts}),
        ),
        messages=tuple(_messages(messages, np.flatnonzero(tags == headers.MESSAGE).tolist())),
        commits=len(commits.indexes),
        commit_lsn=_last(commits.lsns),
        end_lsn=_last(commits.next_lsns),
        unclear=frozenset(run.unclear),
    )


@dataclass(slots=True)
class _Run:
    """One piece on its way."""

    tokens: Tokens
    tags: Bytes
    transactions: Transactions
    state: State
    listed: Mapping[TableId, Listed]
    says_all: bool
    unclear: set[int] = field(default_factory=set)
    layouts: dict[int, Layout] = field(default_factory=dict)
    relations: dict[int, Relation] = field(default_factory=dict)
    _blocks: dict[int, list[Block]] = field(default_factory=dict)

    def read(self, tables: Tables) -> None:
        """Sort the messages by relation and read each relation's rows."""
        order = np.argsort(tables.codes, kind="stable")
        bounds = np.searchsorted(tables.codes[order], np.arange(len(tables.names) + 1))
        truncates: list[tuple[Listed, Integers]] = []
        for code, name in enumerate(tables.names):
            listed = self.listed.get(name)
            if listed is None:
                continue
            which = order[bounds[code] : bounds[code + 1]]
            tags = self.tags[tables.indexes[which]]
            is_row = tags != headers.TRUNCATE
            if not is_row.all():
                truncates.append((listed, tables.indexes[which[~is_row]]))
            rows = which[is_row]
            if len(rows):
                picked = (tables.indexes[rows], tables.at[rows], tables.quotes[rows])
                self._rows(listed, Listings(self.tokens, tags[is_row], *picked))
        self._truncates(truncates)

    def _rows(self, listed: Listed, listings: Listings) -> None:
        known = self.layouts.get(listed.oid) or self.state.layouts.get(listed.oid)
        blocks = self._blocks.setdefault(listed.root, [])
        try:
            for read in read_all(listings, known, listed.live):
                self.layouts[listed.oid] = read.layout
                blocks += blocks_of(read, listed, says_all=self.says_all)
        except Unclear:
            self.unclear.add(listed.root)

    def _truncates(self, truncates: Sequence[tuple[Listed, Integers]]) -> None:
        """Rows for the roots' truncates; a partition's that has none beside it makes the root unclear."""
        of_roots: set[tuple[int, int, bytes]] = set()
        for listed, indexes in truncates:
            if listed.oid == listed.root:
                of_roots.update(self._records(listed, indexes))
                block = truncated(listed, indexes)
                self._blocks.setdefault(listed.root, []).append(block)
        for listed, indexes in truncates:
            if not of_roots.issuperset(self._records(listed, indexes)):
                self.unclear.add(listed.root)

    def _records(self, listed: Listed, indexes: Integers) -> Iterator[tuple[int, int, bytes]]:
        """Root, transaction and WAL record of each."""
        transactions = self.transactions.of[indexes].tolist()
        for transaction, lsn in zip(
            transactions, headers.change_lsns(self.tokens, indexes), strict=True
        ):
            yield listed.root, transaction, lsn

    def changes(self) -> Iterator[Changes]:
        """All that was read, table by table, in the order of the log."""
        for root, blocks in self._blocks.items():
            if root in self.unclear:
                continue
            for changes in joined(blocks, self.state.relations[root], self.transactions):
                self.relations[root] = changes.relation
                yield changes


def _messages(messages: Messages, indexes: Sequence[int]) -> Iterator[LogicalMessage]:
    for index in indexes:
        start = int(messages.starts[index])
        data = messages.buffer[start : start + int(messages.lengths[index])].tobytes()
        try:
            found = json.loads(data)
            lsn = Lsn.parse(found["lsn"])
            yield LogicalMessage(
                lsn, bool(found["transactional"]), found["prefix"], found["content"].encode()
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise broken("a logical message cannot be read", index=index, position=0) from error


def _last(lsns: Integers) -> Lsn | None:
    return Lsn(int(lsns[-1])) if len(lsns) else None
