"""What one source may be asked for by this process as a whole, however many `Server`s it makes.

A run, the sensors of a code location and the doctor each have their own `Server`; the source has one set of
connections and one network. So the counting is done here, once for each source and its limits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pg_ingest.config.model import SourceConfig

_SMALLEST = 1 << 16
"""Bytes; less would be many waits of little."""


@dataclass
class Throttle:
    """Lets at most `rate` bytes a second through, counted over all who share it.

    Who has received bytes waits until they may have come. Nothing is read meanwhile, so the server
    waits too, with a full socket in front of it: it reads no further from its disks.

    Attributes:
        rate: bytes a second, None for as fast as it goes.
    """

    rate: int | None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _free_at: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def portion(self, size: int) -> int:
        """The most to read in one go of the `size` bytes that are wanted: a quarter of a second's, so that
        the bytes come evenly."""
        return size if self.rate is None else min(size, max(self.rate // 4, _SMALLEST))

    def spend(self, size: int) -> None:
        """Wait until `size` bytes more are within the rate."""
        if self.rate is None:
            return
        with self._lock:
            now = self.clock()
            self._free_at = max(now, self._free_at) + size / self.rate
            wait = self._free_at - now
        self.sleep(wait)


@dataclass(frozen=True)
class Guard:
    """The limits of one source in this process.

    Attributes:
        places: one for each connection that may be open.
        throttle: for the bytes that are read.
    """

    places: threading.BoundedSemaphore
    throttle: Throttle


_guards: dict[tuple[object, ...], Guard] = {}
_lock = threading.Lock()


def guard_of(source: str, config: SourceConfig) -> Guard:
    """The guard of a source: the same one whoever asks, as long as the limits stay the same."""
    limits = config.limits
    key = (source, config.host, config.port, config.user, limits.connections, limits.max_rate)
    with _lock:
        if key not in _guards:
            places = threading.BoundedSemaphore(limits.connections)
            _guards[key] = Guard(places, Throttle(limits.max_rate))
        return _guards[key]
