"""Clients that ask without pause, each with a key of its own, and count every answer."""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.reliability.processes import wait_for

PAUSE = 0.015  # seconds between an answer and the next request: far less than key-rpm would refuse
ANSWER_WITHIN = 20.0  # seconds; Envoy says 503 after two where authz does not answer
SERVED_WITHIN = 60.0
NUMBER = "x-test-number"
_LOST = (OSError, EOFError, asyncio.IncompleteReadError)


@dataclass
class Client:
    """One connection, and what came of its requests. A client without `key` may never be let through."""

    name: str
    key: str | None
    method: str
    target: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    sent: int = 0
    admitted: int = 0  # 200 was seen
    refused: int = 0  # 401
    unavailable: int = 0  # 503 in our shape
    cut: int = 0  # sent, and no whole answer came
    admissions: deque[tuple[float, float]] = field(
        default_factory=lambda: deque(maxlen=2000)
    )  # sent, answered
    numbers: set[int] = field(default_factory=set)  # of the requests, since they were taken
    wrong: list[str] = field(default_factory=list)

    def request(self, number: int) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "host: llm.test", f"{NUMBER}: {number}"]
        if self.key is not None:
            lines.append(f"authorization: Bearer {self.key}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body:
            lines += ["content-type: application/json", f"content-length: {len(self.body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def take_numbers(self) -> set[int]:
        """Of its requests since the last call."""
        numbers, self.numbers = self.numbers, set()
        return numbers

    def served_since(self, since: float) -> float | None:
        """When a request that was sent after `since` was first admitted."""
        return next((answered for sent, answered in self.admissions.copy() if sent > since), None)

    def count(self, status: int, body: bytes, sent: float, answered: float) -> None:
        if status == 200 and self.key is not None:
            self.admitted += 1
            self.admissions.append((sent, answered))
        elif status == 401 and self.key is None:
            self.refused += 1
        elif status == 503 and _code(body) == "authz_unavailable":
            self.unavailable += 1
        else:
            self.wrong.append(f"{self.name}: {status} {body[:300]!r}")


def _code(body: bytes) -> str | None:
    """Of an error in the shape of ours: all four fields, nothing else."""
    with suppress(ValueError, TypeError, AttributeError):
        answer = json.loads(body)
        error = answer["error"]
        if set(answer) == {"error"} and set(error) == {"message", "type", "code", "param"}:
            return str(error["code"])
    return None


class Load:
    """All clients of one port, on a thread of their own. A context manager: they ask inside."""

    def __init__(self, port: int, clients: Sequence[Client]) -> None:
        self.clients = clients
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._going = asyncio.Event()
        self._asking = 0
        self._number = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.last_failure = 0.0  # moment of the last answer that was no decision, or of none

    # -- from the test's thread ---------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pause(self) -> None:
        """Returns once every request under way has been answered or cut: the counts stand still."""
        self._loop.call_soon_threadsafe(self._going.clear)
        wait_for("the load to stand still", lambda: self._still, seconds=ANSWER_WITHIN + 1, every=0.002)

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._going.set)

    def await_admissions(self, since: float) -> float:
        """Wait until every client with a key was let through with a request sent after `since`.

        Returns when the last of them was.
        """
        with_keys = [client for client in self.clients if client.key is not None]
        wait_for(
            f"{', '.join(client.name for client in with_keys)} to be served on port {self._port}",
            lambda: all(client.served_since(since) for client in with_keys),
            seconds=SERVED_WITHIN,
        )
        return max(client.served_since(since) or 0.0 for client in with_keys)

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(ANSWER_WITHIN + 5)

    @property
    def _still(self) -> bool:
        return not self._going.is_set() and self._asking == 0

    # -- on the loop ---------------------------------------------------------------------------------

    async def _begin(self) -> None:
        self._going.set()
        self._tasks = [asyncio.ensure_future(self._ask_on(client)) for client in self.clients]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _ask_on(self, client: Client) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                await self._going.wait()
                self._asking += 1
                try:
                    streams = await self._ask(client, streams)
                finally:
                    self._asking -= 1
                await asyncio.sleep(PAUSE)
        finally:
            if streams is not None:
                await _close(streams[1])

    async def _ask(
        self, client: Client, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """One request. The connection, where it can be used again."""
        if streams is not None and streams[0].at_eof():
            await _close(streams[1])
            streams = None
        if streams is None:
            try:
                streams = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self.last_failure = time.monotonic()
                return None  # nothing was sent
        reader, writer = streams
        self._number += 1
        number, sent = self._number, time.monotonic()
        client.sent += 1
        client.numbers.add(number)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                writer.write(client.request(number))
                status, body, closes = await _answer(reader)
        except _LOST:
            client.cut += 1
            self.last_failure = time.monotonic()
            await _close(writer)
            return None
        except TimeoutError:
            client.wrong.append(f"{client.name}: no answer within {ANSWER_WITHIN} s")
            await _close(writer)
            return None
        answered = time.monotonic()
        client.count(status, body, sent, answered)
        if status == 503:
            self.last_failure = answered
        if closes:
            await _close(writer)
            return None
        return streams


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection ends with it."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(first.split()[1]), body, headers.get("connection", "").lower() == "close"
