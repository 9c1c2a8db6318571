"""An engine that speaks bytes instead of HTTP: what broken servers and proxies send, and how they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

CUT = object()  # the connection is reset here
HANG = object()  # nothing more comes


@dataclass
class RawEngine:
    """`script` is sent as soon as a request has been read: bytes, `CUT` or `HANG`; then the connection ends.

    Attributes:
        url: its address.
        requests: number of requests.
        open: connections under way.
    """

    url: str = ""
    script: tuple[object, ...] = ()
    requests: int = 0
    open: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, length = head.partition(b"content-length: ")
        await reader.readexactly(int(length.split(b"\r\n")[0] or 0))
        self.requests += 1
        for step in self.script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
                await asyncio.sleep(0.01)
            elif step is CUT:
                writer.transport.abort()
            else:
                await reader.read()  # until the gateway goes away


@contextmanager
def raw_engine() -> Iterator[RawEngine]:
    """Run it in a thread of its own."""
    engine, loop = RawEngine(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(engine.handle, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def stop() -> None:
        server.close()
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    try:
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
