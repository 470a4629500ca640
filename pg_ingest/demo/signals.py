"""Ctrl-C, SIGTERM and a closed terminal end the demo once, in order.

The first signal raises KeyboardInterrupt, and from then on they are ignored: what unwinds (stopping the
user interface, the workload and the server, deleting the work folder) has time limits of its own and
must not be cut short, or it would leave something running.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore() -> None:
    """From here on nothing interrupts."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_once() -> Iterator[None]:
    """Each signal raises KeyboardInterrupt in the block, once; afterwards they do what they did."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    ignore()
    raise KeyboardInterrupt
