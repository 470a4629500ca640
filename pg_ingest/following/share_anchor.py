"""The snapshot that tables of one run have in common when they are first read from a standby.

To make one may take most of a minute (`postgres/protocol_slot.py`), whatever the table. So the next tables
take over the one that is there, as long as it is young: rows as of a moment that has passed are as right as
others, the log goes on from there. A table that could not go on from it needs a newer one (`give_up`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from pg_ingest.postgres.anchor import anchored
from pg_ingest.postgres.session import Session
from pg_ingest.postgres.snapshot import Anchor

YOUNG_SECONDS = 60.0
"""The standby keeps what it sees, and its log, for so long after the last one was read, and no longer."""


class SharedAnchor:
    """Use it as a context manager; leaving it gives the snapshot up."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._anchor: Anchor | None = None
        self._made_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_up()

    @contextmanager
    def seen_from(self, session: Session) -> Iterator[Anchor | None]:
        """What the session's next snapshot has to be; None at a primary, where any will do.

        An error in the block gives it up. Raises as `anchored`.
        """
        if not session.is_standby:
            yield None
            return
        if time.monotonic() - self._made_at > YOUNG_SECONDS:
            self.give_up()
        if self._anchor is None:
            self._anchor = self._held.enter_context(anchored(session))
            self._made_at = time.monotonic()
        try:
            yield self._anchor
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Let the standby forget it; the next table gets a new one."""
        self._anchor = None
        self._held.close()
