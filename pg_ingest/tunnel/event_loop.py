"""The thread in which all tunnels of this process live.

The rest of the package is synchronous and a connection of libpq needs somebody to carry its bytes while it
waits inside C, so the tunnels have an event loop of their own. It starts with the first tunnel, in a daemon
thread: whatever happens to a tunnel, the process can end. At exit it is stopped in order.

A forked child has the memory of the tunnels but not their thread, and shares their sockets with its parent. It
forgets them without a word on the wire, and opens its own when it needs one.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_STOP_SECONDS = 5.0
"""How long the end of the process waits for a goodbye to a server that may be gone."""


class EventLoopThread:
    """An event loop in a daemon thread; `run` gives it work from any other thread."""

    def __init__(self, farewell: Callable[[], Awaitable[None]]) -> None:
        """`farewell` is awaited when the loop is stopped."""
        self._farewell = farewell
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._inherited: list[object] = []
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.stop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the coroutine, or what it raises. Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Say goodbye and end the thread; does nothing when none runs. `run` starts a new one."""
        with self._starting:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(loop), loop)
        thread.join(2 * _STOP_SECONDS)
        if not thread.is_alive():
            loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="pg_ingest tunnels", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._farewell()
                await self._cancel_tasks()
                await loop.shutdown_default_executor()
        except TimeoutError:
            pass  # a server that does not answer must not keep the process
        finally:
            loop.stop()

    async def _cancel_tasks(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _forget(self) -> None:
        """In a forked child: keep what was inherited from ever being closed, and start afresh."""
        self._inherited += [self._loop, self._thread]
        self._starting = threading.Lock()
        self._loop = self._thread = None
