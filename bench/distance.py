"""A line that takes its time: a TCP relay on 127.0.0.1 that hands on everything later, in order.

    python -m bench.distance PORT TO_PORT MILLISECONDS

The time is for one direction. It holds what is on its way, so it slows nothing down but the answers.
"""

from __future__ import annotations

import asyncio
import sys

_CHUNK = 1 << 18


async def relay(port: int, to: int, seconds: float) -> None:
    """Serve until cancelled."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to, limit=_CHUNK * 16)
        await asyncio.gather(later(reader, far_writer, seconds), later(far_reader, writer, seconds))

    server = await asyncio.start_server(accepted, "127.0.0.1", port, limit=_CHUNK * 16)
    await server.serve_forever()


async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Hand on what comes, each piece `seconds` after it came, and the end too."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, piece = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    async with asyncio.TaskGroup() as both:
        both.create_task(deliver())
        piece = b"start"
        while piece:
            try:
                piece = await reader.read(_CHUNK)
            except ConnectionError:
                piece = b""
            waiting.put_nowait((loop.time() + seconds, piece))


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
