"""The tokens of a request's input, counted by the model's own `tokenizer.json`.

Exact for the texts. What a chat template puts around them is not known here, so an
overhead is added for every object among the messages, and by the caller for the whole.
No text has more tokens than bytes, so the bytes of the body stay the upper bound.
"""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from authz.printed import indentation

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LARGEST_AT_ONCE = 4 << 10
"""Bytes of a body that are counted while every other decision waits: a few milliseconds."""

LARGEST_COUNTED = 256 << 10
"""Bytes of a body that are counted beside: up to half a second, of the two that a gateway waits."""

MOST_WAITING = 8
"""Bodies that wait for the thread beside, together as large as two of the largest."""

MOST_TEXTS = 2048
GROWTH = 4
"""Texts this many times as long as their body are still counted: indentation makes nested tools long."""

PER_OBJECT = 16  # tokens around a message, a part of one, a tool call

# Members whose objects a template takes apart, and the members of those. Any other is reckoned as it would
# be printed: its names too, and its numbers digit by digit.
_TAKEN_APART = frozenset(
    {"messages", "input", "system", "instructions", "prompt", "suffix", "query", "documents"}
)
_PARTS = frozenset(
    {"role", "content", "type", "text", "name", "id", "tool_call_id", "tool_calls", "function"}
)
_ARGUMENTS = "arguments"  # JSON within a text, which templates print anew


class CannotCount(Exception):
    """Too many texts, or too long ones."""


class _Beside:
    """The one thread for all models, and what waits for it."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="authz-tokenizer")
        self.waiting = 0
        self.bytes = 0


_beside = _Beside()


class InputCounter:
    """Counts by one tokenizer. Whom it has no time for is reckoned by bytes."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # `<|im_end|>` in a text is one token to a server that takes it for the control token, and several
        # to one that does not: reckon with the latter.
        tokenizer.encode_special_tokens = True
        self._encode = tokenizer.encode_batch  # it lets other threads run, `encode` does not

    async def __call__(self, body: bytes) -> int | None:
        """Tokens of a JSON object's input at most; None where they are not counted. Awaits a bare future."""
        size = len(body)
        if size <= LARGEST_AT_ONCE:
            return self.count(body)
        if (
            size > LARGEST_COUNTED
            or _beside.waiting >= MOST_WAITING
            or _beside.bytes + size > 2 * LARGEST_COUNTED
        ):
            return None
        _beside.waiting += 1
        _beside.bytes += size
        try:
            return await asyncio.get_running_loop().run_in_executor(_beside.thread, self.count, body)
        finally:
            _beside.waiting -= 1
            _beside.bytes -= size

    def count(self, body: bytes) -> int | None:
        """As when called, at once and whatever the size."""
        texts = _Texts(GROWTH * max(len(body), LARGEST_AT_ONCE))
        try:
            members: dict[str, Any] = msgspec.json.decode(body)
            for name, value in members.items():
                if name in _TAKEN_APART:
                    texts.gather(value, ids=True)
                elif isinstance(value, str) and name != "model":
                    texts.add(value)
                elif isinstance(
                    value, dict | list
                ):  # tools, a schema of the answer: some templates indent them
                    texts.print(value)
        except (CannotCount, msgspec.MsgspecError, RecursionError):
            return None  # what no server could read either, or nobody in time
        return texts.others + sum(len(each) for each in self._encode(texts.found, add_special_tokens=False))


class _Texts:
    """The texts of a body, `most` characters of them, and the tokens that are not text."""

    def __init__(self, most: int) -> None:
        self.found: list[str] = []
        self.others = 0
        self._left = most

    def add(self, text: str) -> None:
        self._left -= len(text)
        if len(self.found) >= MOST_TEXTS or self._left < 0:
            raise CannotCount
        self.found.append(text)

    def print(self, value: Any) -> None:
        """As the widest template does."""
        plain = msgspec.json.encode(value)
        if indentation(plain) > self._left:
            raise CannotCount
        self.add(msgspec.json.format(plain, indent=4).decode())

    def gather(self, value: Any, *, ids: bool = False) -> None:
        """The texts of a value; `ids`: a list of numbers is one of tokens."""
        if isinstance(value, str):
            self.add(value)
        elif isinstance(value, list):
            if ids and value and all(type(item) is int for item in value):
                self.others += len(value)
                return
            for item in value:
                self.gather(item, ids=ids)
        elif isinstance(value, dict):
            self.others += PER_OBJECT
            for name, item in value.items():
                if name in _PARTS:
                    self.gather(item)
                elif name == _ARGUMENTS and isinstance(item, str):
                    self.print(_read(item))
                else:
                    self.print({name: item})
        else:
            self.add(json.dumps(value))


def _read(text: str) -> Any:
    """What JSON in a text says, or the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text


def read_tokenizer(path: Path) -> InputCounter:
    """The counter of a `tokenizer.json`. ValueError: what is wrong with the file, or not installed."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ValueError(f"the tokenizer cannot be read: {error.strerror or error}") from None
    if find_spec("tokenizers") is None:
        raise ValueError("counting by a tokenizer needs a package: pip install 'llm-authz[tokenizers]'")
    return _load(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _load(path: str, changed: int, size: int) -> InputCounter:
    """Read once as long as it stays the same: a large one takes a second."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one core is enough to take
    from tokenizers import Tokenizer

    try:
        return InputCounter(Tokenizer.from_file(path))
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"this is no tokenizer.json: {str(error)[:200]}") from None
