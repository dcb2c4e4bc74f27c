"""A TCP proxy that makes a healthy server look slow, stuck or broken. Runs in a thread of its own."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.ports import free_port


class Toxic:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`upstream`, and spoils it on request.

    With `tls` it speaks TLS to clients and plain TCP to the server. Everything may be changed at any
    time, from any thread; it holds for connections that are open too.
    """

    def __init__(self, upstream: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.port = free_port()
        self.delay_ms: float = 0  # for every byte from the server
        self.accepted = 0  # connections, so far
        self._tls = tls
        self._reset_after = -1
        self._lines: set[_Line] = set()
        self._server: asyncio.Server | None = None
        self._flowing: asyncio.Event
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toxic", daemon=True)

    @property
    def url(self) -> str:
        return f"{'rediss' if self._tls else 'redis'}://127.0.0.1:{self.port}/0"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._lines)

    def hold(self) -> None:
        """Forward nothing more, in either way. Connections stay and new ones are accepted."""
        self._now(self._flowing.clear)

    def release(self) -> None:
        """Forward all that was held."""
        self._now(self._flowing.set)

    def reset_mid_reply(self, after: int = 1) -> None:
        """Let `after` more bytes of replies through, then reset that connection (RST)."""
        self._reset_after = after

    def cut(self) -> None:
        """Reset every connection and accept no more."""
        self._do(self._cut())

    def drop(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._now(self._reset_all)

    def mend(self) -> None:
        """Accept connections again, forward at full speed."""
        self.delay_ms = 0
        self._reset_after = -1
        self._do(self._listen())
        self.release()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._cut())
        self._do(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: "asyncio._CoroutineLike[None]") -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def _now(self, act: Callable[[], object]) -> None:
        async def work() -> None:
            act()

        self._do(work())

    async def _begin(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset_all()

    async def _finish(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)

    def _reset_all(self) -> None:
        for line in list(self._lines):
            line.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            server = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        line = _Line(self, (reader, writer), server)
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)
            line.reset()

    async def pass_on(self, data: bytes, due: float, writer: asyncio.StreamWriter) -> bool:
        """Write what the server said when it is due. False: the connection was reset instead."""
        await asyncio.sleep(max(0.0, due - self._loop.time()))
        await self._flowing.wait()
        left = self._reset_after
        if left >= 0:
            if len(data) > left:
                self._reset_after = -1
                writer.write(data[:left])
                await asyncio.sleep(0.02)  # what was written shall arrive before the reset
                return False
            self._reset_after = left - len(data)
        writer.write(data)
        return True

    async def flowing(self) -> None:
        await self._flowing.wait()


class _Line:
    """One client's connection and ours to the server."""

    def __init__(
        self,
        toxic: Toxic,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._toxic = toxic
        self._client = client
        self._server = server
        self._said: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def run(self) -> None:
        """Until either side is done."""
        tasks = [asyncio.ensure_future(work) for work in (self._up(), self._listen(), self._down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def reset(self) -> None:
        for _, writer in (self._client, self._server):
            connected = writer.get_extra_info("socket")
            if connected is not None and connected.fileno() >= 0:
                connected.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )  # RST, no FIN
            writer.transport.abort()

    async def _up(self) -> None:
        while data := await self._client[0].read(65536):
            await self._toxic.flowing()
            self._server[1].write(data)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await self._server[0].read(65536):
            self._said.put_nowait((loop.time() + self._toxic.delay_ms / 1000, data))
        self._said.put_nowait((loop.time(), b""))
        await asyncio.Event().wait()

    async def _down(self) -> None:
        while True:
            due, data = await self._said.get()
            if not data or not await self._toxic.pass_on(data, due, self._client[1]):
                return
