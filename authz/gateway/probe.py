"""Looking from outside whether something answers, and what a model server serves."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from authz.config.words import ModelName

_MODEL_NAME: TypeAdapter[str] = TypeAdapter(ModelName)


class NoAnswer(Exception):
    """What kept the answer from coming, for a person."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a model server lists. Names that no config can hold are apart."""

    models: tuple[str, ...]
    unusable: tuple[str, ...]
    contexts: Mapping[str, int]  # tokens, as far as it tells (vLLM: `max_model_len`)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; status 0 where nobody did."""

    status: int = 0
    text: str = ""


async def get(host: str, port: int, path: str, *, key: str | None = None) -> Answer:
    """A GET on this machine, given a second.

    Asked many times while things start, and therefore as cheap as can be.
    """
    credential = f"authorization: Bearer {key}\r\n" if key is not None else ""
    return await _get(asyncio.open_connection(host, port), path, f"host: {host}:{port}\r\n{credential}")


async def get_by_socket(socket: Path, path: str) -> Answer:
    """The same through a socket in the file system."""
    return await _get(asyncio.open_unix_connection(socket), path, "host: localhost\r\n")


async def _get(
    connecting: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]], path: str, headers: str
) -> Answer:
    try:
        async with asyncio.timeout(1):
            reader, writer = await connecting
            try:
                writer.write(f"GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
        return Answer(int(answer.split(maxsplit=2)[1]), answer.decode("utf-8", "replace"))
    except (OSError, TimeoutError, ValueError, IndexError):
        return Answer()


async def served_models(upstream: str, *, bearer: str | None = None, seconds: float = 3.0) -> Served:
    """The names that an OpenAI-compatible server lists at `/v1/models`. Raises NoAnswer."""
    import httpx2  # takes as long to import as all else together, and `--demo` does without

    headers = {"authorization": f"Bearer {bearer}"} if bearer is not None else {}
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=seconds) as client:
            answer = await client.get(f"{upstream}/v1/models", headers=headers)
    except httpx2.TimeoutException:
        raise NoAnswer(f"it does not answer within {seconds:g} s") from None
    except httpx2.ConnectError:
        raise NoAnswer("nothing accepts connections there") from None
    except httpx2.HTTPError as error:
        raise NoAnswer(str(error) or type(error).__name__) from None
    if answer.status_code != HTTPStatus.OK:
        raise NoAnswer(f"it answers GET /v1/models with HTTP {answer.status_code}")
    try:
        listed = {str(model["id"]): model.get("max_model_len") for model in answer.json()["data"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoAnswer("what it answers to GET /v1/models is not a list of models") from None
    usable = tuple(name for name in listed if _is_model_name(name))
    contexts = {name: size for name in usable if type(size := listed[name]) is int and size > 0}
    return Served(usable, tuple(name for name in listed if name not in usable), contexts)


def _is_model_name(name: str) -> bool:
    try:
        _MODEL_NAME.validate_python(name)
    except ValidationError:
        return False
    return True
