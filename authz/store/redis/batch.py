"""Calls on their way to Redis and back."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import hiredis

from authz.store.protocols import StoreUnavailable
from authz.store.redis.link import Script, Undo, Word

pack = cast(Callable[[tuple[Word, ...]], bytes], hiredis.pack_command)
"""A command as Redis reads it (RESP2). Redis-py's own packing of 40 arguments takes ten times as long."""


class Debt(NamedTuple):
    """An undo that is owed."""

    undo: Undo
    until: float  # of the loop's clock


class Call:
    """One command, until its reply."""

    __slots__ = ("asking", "begun", "future", "hops", "script", "undo", "whole", "words")

    def __init__(
        self,
        future: asyncio.Future[Any] | None,
        words: tuple[Word, ...],
        script: Script | None = None,
        undo: Undo | Debt | None = None,
    ) -> None:
        self.future = future  # None: nobody waits
        self.words = words
        self.script = script  # that `words` run by its SHA-1
        self.undo = undo  # owed if the call ends without a reply, an undo's own too; None: no more
        self.whole = False  # sent with the script's text
        self.begun = 0.0  # of time.monotonic(), where a decision waits for it; 0: none does
        self.hops = 0  # servers that sent it on to another
        self.asking = False  # to one that does not have the slot yet: ASKING goes before it

    def packed(self) -> bytes:
        if self.whole and self.script is not None:
            return pack(("EVAL", self.script.source, *self.words[2:]))
        return pack(self.words)

    def fail(self, error: StoreUnavailable) -> None:
        """Nothing if it has its answer already."""
        future = self.future
        if future is not None and not future.done():
            future.set_exception(error)
            future.exception()  # nobody may ask for it: then it is no news for the log


def script_words(script: Script, keys: Sequence[str], args: Sequence[Word]) -> tuple[Word, ...]:
    return ("EVALSHA", script.sha, len(keys), *keys, *args)
