"""A small TCP proxy that can slow single lines or cut them: what is sent over a cut line is never heard of again.

Each line is a port of its own in front of one target. A cut line stays open and silent, as with a
pulled cable: nothing is refused, nothing arrives, new connections hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Final

_BYTES: Final = 16384
_HOST: Final = "127.0.0.1"


class Line:
    """One port. `url` is where to talk to instead of the target; either direction may be slow."""

    def __init__(
        self, target_port: int, bytes_per_second: float = math.inf, answer_bytes_per_second: float = math.inf
    ) -> None:
        self._target_port = target_port
        self._bytes_per_second = bytes_per_second
        self._answer_bytes_per_second = answer_bytes_per_second
        self._whole = True
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    @property
    def url(self) -> str:
        """The address of this line."""
        return f"http://{_HOST}:{self.port}"

    def cut(self) -> None:
        """From now on nothing passes, in neither direction, for good."""
        self._whole = False

    async def open(self) -> asyncio.Server:
        """Begin to listen on a free port."""
        server = await asyncio.start_server(self._serve, _HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if not self._whole:
            self._keep(self._swallow(reader))
            return
        try:
            target_reader, target_writer = await asyncio.open_connection(_HOST, self._target_port)
        except OSError:
            writer.close()
            return
        self._writers.append(target_writer)
        self._keep(self._pump(reader, target_writer, self._bytes_per_second))
        self._keep(self._pump(target_reader, writer, self._answer_bytes_per_second))

    def hang_up(self) -> None:
        """Close all connections, for the end."""
        for writer in self._writers:
            writer.transport.abort()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_per_second: float
    ) -> None:
        """Pass on what comes until the sender hangs up; a cut line does not even tell of that."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_BYTES):
                await asyncio.sleep(len(data) / bytes_per_second)
                if self._whole:
                    writer.write(data)
                    await writer.drain()
        if self._whole:
            writer.close()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(_BYTES):
                pass


@contextlib.contextmanager
def lines(names: list[str], target_port: int, *bytes_per_second: float) -> Iterator[dict[str, Line]]:
    """A line for each name (`bytes_per_second`: to the target, and back), served until the end of the `with`."""
    made = {name: Line(target_port, *bytes_per_second) for name in names}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()

    async def open_all() -> list[asyncio.Server]:
        return [await line.open() for line in made.values()]

    async def close_all() -> None:
        for server in servers:
            server.close()
        for line in made.values():
            line.hang_up()
        others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    servers = asyncio.run_coroutine_threadsafe(open_all(), loop).result()
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(close_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
