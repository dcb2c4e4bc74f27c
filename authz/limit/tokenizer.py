"""The tokens of a request's input, counted by the model's own `tokenizer.json`.

Exact for the texts. What a chat template puts around them is not known here, so an
overhead is added for every object among the messages, and by the caller for the whole.
No text has more tokens than bytes, so the bytes of the body stay the upper bound.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LARGEST_AT_ONCE = 4 << 10
"""Bytes of a body that are counted while every other decision waits: a few milliseconds."""

LARGEST_COUNTED = 256 << 10
"""Bytes of a body that are counted beside: up to half a second, of the two that a gateway waits."""

MOST_WAITING = 8
MOST_TEXTS = 2048
PER_OBJECT = 16  # tokens around a message, a part of one, a tool call

# Members whose objects a template takes apart; any other is reckoned as it would be printed.
_TAKEN_APART = ("messages", "input", "system", "instructions", "prompt", "suffix", "query", "documents")


class CannotCount(Exception):
    """Too many texts, or something that is no text."""


_beside = ThreadPoolExecutor(1, thread_name_prefix="authz-tokenizer")


class InputCounter:
    """Counts by one tokenizer. Whom it has no time for is reckoned by bytes."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # `<|im_end|>` in a text is one token to a server that takes it for the control token, and several
        # to one that does not: reckon with the latter.
        tokenizer.encode_special_tokens = True
        self._encode = tokenizer.encode_batch  # it lets other threads run, `encode` does not
        self._waiting = 0

    async def __call__(self, body: bytes) -> int | None:
        """Tokens of a JSON object's input at most; None where they are not counted. Awaits a bare future."""
        if len(body) <= LARGEST_AT_ONCE:
            return self.count(body)
        if len(body) > LARGEST_COUNTED or self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(_beside, self.count, body)
        finally:
            self._waiting -= 1

    def count(self, body: bytes) -> int | None:
        """As when called, at once and whatever the size."""
        members: dict[str, Any] = msgspec.json.decode(body)
        texts: list[str] = []
        try:
            others = 0
            for name, value in members.items():
                if name in _TAKEN_APART:
                    others += _gather(value, texts)
                elif isinstance(
                    value, dict | list
                ):  # tools, a schema of the answer: some templates indent them
                    texts.append(msgspec.json.format(msgspec.json.encode(value), indent=4).decode())
            return others + sum(len(each) for each in self._encode(texts, add_special_tokens=False))
        except CannotCount:
            return None


def _gather(value: Any, texts: list[str]) -> int:
    """Put the texts of a value on the list; the tokens that are not text."""
    if isinstance(value, str):
        if len(texts) >= MOST_TEXTS:
            raise CannotCount
        texts.append(value)
        return 0
    if isinstance(value, list):
        if value and all(type(item) is int for item in value):
            return len(value)  # token ids
        return sum(_gather(item, texts) for item in value)
    if isinstance(value, dict):
        return PER_OBJECT + sum(_gather(item, texts) for item in value.values())
    return 1  # a number, true, null


def read_tokenizer(path: Path) -> InputCounter:
    """The counter of a `tokenizer.json`. ValueError: what is wrong with the file, or not installed."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ValueError(f"the tokenizer cannot be read: {error.strerror or error}") from None
    if find_spec("tokenizers") is None:
        raise ValueError("counting by a tokenizer needs a package: pip install 'llm-authz[tokenizers]'")
    return _read(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read(path: str, changed: int, size: int) -> InputCounter:
    """Read once as long as it stays the same: a large one takes a second."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one core is enough to take
    from tokenizers import Tokenizer

    try:
        return InputCounter(Tokenizer.from_file(path))
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"this is no tokenizer.json: {str(error)[:200]}") from None
