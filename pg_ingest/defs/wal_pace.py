"""How fast a server writes its log, and when that brings a slot into danger."""

from __future__ import annotations

from dataclasses import dataclass

HALF_LIFE_SECONDS = 600.0
"""After so long what was seen before counts half: a burst is not taken for the rule, a new rule is learnt."""

FAR_SECONDS = 30 * 86_400.0
"""What lies further ahead is not worth a figure."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The end of the log at a moment (seconds since 1970) and how fast it went on until then.

    `rate` is in bytes a second, None until it was seen twice.
    """

    written: int
    at: float
    rate: float | None = None

    def seen(self, written: int, at: float) -> Pace:
        """The pace after another look."""
        passed = at - self.at
        if passed <= 0:
            return self
        if written < self.written:
            return Pace(written, at)
        now = (written - self.written) / passed
        if self.rate is None:
            return Pace(written, at, now)
        kept = 0.5 ** (passed / HALF_LIFE_SECONDS)
        return Pace(written, at, kept * self.rate + (1 - kept) * now)

    def seconds_until(self, left: int | None) -> float | None:
        """When so many more bytes will have been written; None when unknown or far ahead."""
        if left is None or not self.rate or left / self.rate > FAR_SECONDS:
            return None
        return max(0.0, left / self.rate)
