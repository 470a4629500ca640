"""How far a load is."""

from __future__ import annotations

from dataclasses import dataclass

PROGRESS_SECONDS = 0.5
"""Seconds between two reports of a load's progress at least."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is.

    Attributes:
        rows, bytes: that have come since it began.
        seconds: since it began.
        expected: rows of all that it will read, about; 0 when nobody knows.
        earlier: rows that stood ready before it began, from a load that was interrupted.
    """

    rows: int
    bytes: int
    seconds: float
    expected: int = 0
    earlier: int = 0

    @property
    def percent(self) -> int | None:
        """Whole percent, 99 until the last row has come."""
        if self.expected <= 0:
            return None
        return min(99, 100 * (self.rows + self.earlier) // self.expected)

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before that can be said."""
        left = self.expected - self.rows - self.earlier
        if self.expected <= 0 or self.rows <= 0 or self.seconds < 1.0 or left <= 0:
            return None
        return left * self.seconds / self.rows
