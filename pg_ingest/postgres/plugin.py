"""The output plugins of a slot: what they are asked for, and how what they say is understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pg_ingest.config.log import Plugin
from pg_ingest.decode import copy_both, pgoutput
from pg_ingest.decode.messages import Decoded, Integers, Messages, State
from pg_ingest.postgres.faults import quoted


class LogPlugin(Protocol):
    """One plugin as it is asked in one capture.

    Attributes:
        name: as slots name it.
        options: what it is started with.
        textual: it writes text in the database's encoding, and not bytes of its own.
    """

    @property
    def name(self) -> Plugin: ...

    @property
    def options(self) -> Mapping[str, str]: ...

    @property
    def textual(self) -> bool: ...

    def begin(self) -> State:
        """What is known before the first message."""

    def decode(self, messages: Messages, state: State) -> Decoded:
        """The next piece; raises ProtocolError."""

    def begins(self, messages: Messages) -> tuple[Integers, Integers]:
        """The numbers of the Begin messages and the positions of the Commits that they announce."""

    def commits(self, messages: Messages) -> Integers:
        """The numbers of the Commit messages."""

    def heard(self, notice: str) -> None:
        """The server warned while it ran the plugin."""

    def unclear(self) -> frozenset[int]:
        """The oids of tables of which warnings said that changes were left out; none the next time."""


@dataclass(frozen=True, slots=True)
class PgOutput:
    """`pgoutput`, protocol version 1, with one publication."""

    publication: str
    name: Plugin = Plugin.PGOUTPUT
    textual: bool = False

    @property
    def options(self) -> Mapping[str, str]:
        """See LogPlugin."""
        return {"proto_version": "1", "publication_names": quoted(self.publication)}

    def begin(self) -> State:
        """Nothing: the server announces every table before its first change."""
        return State()

    def decode(self, messages: Messages, state: State) -> Decoded:
        """See `decode.pgoutput`."""
        return pgoutput.decode(messages, state)

    def begins(self, messages: Messages) -> tuple[Integers, Integers]:
        """See LogPlugin."""
        return copy_both.begins(messages)

    def commits(self, messages: Messages) -> Integers:
        """See LogPlugin."""
        return copy_both.commits(messages)

    def heard(self, notice: str) -> None:
        """It never leaves changes out."""

    def unclear(self) -> frozenset[int]:
        """None."""
        return frozenset()
