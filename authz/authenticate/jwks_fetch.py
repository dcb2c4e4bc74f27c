"""Fetching key sets over HTTP, from nowhere but where they may come from (attacks 59, 60)."""

import asyncio
from typing import Any, Protocol

import httpx2

from authz.authenticate.urls import is_forbidden

LARGEST_DOCUMENT = 256 * 1024  # bytes
LONGEST_FETCH = 10.0  # seconds, all of it


class FetchFailed(Exception):
    """The document could not be had. Says why."""


class Fetcher(Protocol):
    """Gets a document. May take its time: nobody waits for it without a deadline of their own."""

    async def get(self, url: str) -> bytes:
        """The whole document. Raises FetchFailed."""
        ...

    async def close(self) -> None: ...


class HttpFetcher:
    """GET, no redirects, at most 256 KiB, at most 10 s, never from a link-local peer."""

    def __init__(self, *, longest: float = LONGEST_FETCH) -> None:
        self._longest = longest
        self._client: httpx2.AsyncClient | None = None

    async def get(self, url: str) -> bytes:
        """The body of a 200 answer. Raises FetchFailed."""
        if self._client is None:
            self._client = httpx2.AsyncClient(follow_redirects=False, timeout=self._longest)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        try:
            async with (
                asyncio.timeout(self._longest),
                self._client.stream(
                    "GET", url, headers=headers, extensions={"trace": _judge_peer}
                ) as response,
            ):
                return await _body(response)
        except TimeoutError as error:
            raise FetchFailed(f"no whole answer within {self._longest:g} s") from error
        except httpx2.HTTPError as error:
            raise FetchFailed(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


async def _body(response: httpx2.Response) -> bytes:
    if response.status_code != 200:
        raise FetchFailed(f"status {response.status_code}; redirects are not followed")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("the answer is compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LARGEST_DOCUMENT:
            raise FetchFailed(f"the answer is larger than {LARGEST_DOCUMENT} bytes")
    return bytes(body)


async def _judge_peer(event: str, info: dict[str, Any]) -> None:
    """Look at the address once the name is resolved and connected, and before anything is sent to it."""
    if event == "connection.connect_tcp.complete":
        stream = info["return_value"]
        peer = stream.get_extra_info("server_addr")
        if peer and is_forbidden(str(peer[0]).partition("%")[0]):
            await stream.aclose()
            raise FetchFailed("the name leads to a link-local address")
