"""What goes on beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def meanwhile(work: Callable[[], object], *, pause: float = 0.0) -> Iterator[None]:
    """Do that again and again in a thread until the block ends; what it raises is raised then."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(pause):
            work()

    with ThreadPoolExecutor(1, "meanwhile") as pool:
        done = pool.submit(go_on)
        try:
            yield
        finally:
            stop.set()
        done.result()
