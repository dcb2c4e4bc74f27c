"""Asks authz itself, as Traefik's forward-auth does, and tells it what was used. One connection, kept."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct

PATIENCE = 30.0  # seconds for one answer


class Told(Struct, frozen=True):
    """What authz answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reservation(self) -> str:
        return self.headers["x-authz-reservation"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asker:
    """A gateway with a token, kind `traefik`. Raises OSError, EOFError or TimeoutError where authz is gone."""

    def __init__(self, port: int, token: str, *, can: str = "") -> None:
        self.port = port
        self._own = f"x-authz-gateway-token: {token}\r\n"
        if can:
            self._own += f"x-authz-gateway-can: {can}\r\n"
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Close at once, whatever is under way."""
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None

    async def ask(self, key: str, asked: Mapping[str, Any], *, path: str = "/v1/chat/completions") -> Told:
        """May this request pass?"""
        more = f"authorization: Bearer {key}\r\nx-forwarded-method: POST\r\nx-forwarded-uri: {path}\r\n"
        more += "x-forwarded-proto: https\r\nx-forwarded-host: llm.test\r\nx-forwarded-for: 203.0.113.9\r\n"
        return await self._post("/auth/traefik", json.dumps(asked).encode(), more)

    async def report(self, *reports: Mapping[str, Any]) -> list[str]:
        """Tell what was used. The outcome of each report."""
        told = await self._post("/v1/usage", json.dumps(reports).encode(), "")
        if told.status != 200:
            raise ConnectionError(f"{told.status}: {told.body.decode(errors='replace')}")
        return [each["outcome"] for each in told.json["results"]]

    async def _post(self, path: str, body: bytes, more: str) -> Told:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: authz\r\n{self._own}{more}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(PATIENCE):
                if self._open is None:
                    self._open = await asyncio.open_connection("127.0.0.1", self.port)
                reader, writer = self._open
                writer.write(head.encode() + body)
                return await _read(reader)
        except BaseException:
            self.hang_up()
            raise


async def _read(reader: asyncio.StreamReader) -> Told:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Told(int(lines[0].split(" ")[1]), headers, body)


def usage(reservation: str, input: int, output: int) -> dict[str, Any]:
    """A report of a whole answer, as the chat API counts."""
    return {
        "reservation": reservation,
        "status": 200,
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
    }
