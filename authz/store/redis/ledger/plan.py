"""Steps that ask Redis for several things at once, written as if for one shard alone.

A plan is a generator: it yields commands, is sent their replies, and returns its result. Plans for many
shards are carried out side by side, so that a Cluster's 256 shards cost as many round trips as one.
"""

from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError

from authz.store.redis.failures import explained
from authz.store.redis.script import Script
from authz.store.redis.sources import source

T = TypeVar("T")
Word = bytes | str | int
Command = tuple[Word, ...]
Plan = Generator[Sequence[Command], Sequence[Any], T]

TOGETHER: Final = 2_000  # commands in one write

_FOLD: Final = Script("fold", source("fold"))
_LOOK_UP: Final = Script("look_up", source("look_up"))
_BY_SHA: Final = {script.sha: script for script in (_FOLD, _LOOK_UP)}


def fold_script(keys: Sequence[str], words: Sequence[Word]) -> Command:
    """`lua/fold.lua`."""
    return ("EVALSHA", _FOLD.sha, len(keys), *keys, *words)


def look_up(fields: Sequence[tuple[str, Word]]) -> Command:
    """Fields of hashes of one shard, by key and name; None in place of what is not there."""
    return ("EVALSHA", _LOOK_UP.sha, len(fields), *(key for key, _ in fields), *(name for _, name in fields))


def carry_out(client: Any, plans: Sequence[Plan[T]]) -> list[T]:
    """The results, in the order of the plans. Raises StoreUnavailable.

    `client` is redis-py's, of a server or of a Cluster. What is sent may be sent twice, when a
    connection breaks before the reply.
    """
    results: dict[int, T] = {}
    asked: dict[int, Sequence[Command]] = {}

    def advance(number: int, replies: Sequence[Any] | None) -> None:
        try:
            asked[number] = plans[number].send(replies) if replies is not None else next(plans[number])
        except StopIteration as done:
            asked.pop(number, None)
            results[number] = done.value

    for number in range(len(plans)):
        advance(number, None)
    while asked:
        running = dict(asked)
        replies = iter(ask(client, [command for commands in running.values() for command in commands]))
        for number, commands in running.items():
            advance(number, [next(replies) for _ in commands])
    return [results[number] for number in range(len(plans))]


def ask(client: Any, commands: Sequence[Command]) -> list[Any]:
    """The replies to commands, in their order. Raises StoreUnavailable."""
    found: list[Any] = []
    with explained():
        for begin in range(0, len(commands), TOGETHER):
            pipeline = client.pipeline(transaction=False)
            for command in commands[begin : begin + TOGETHER]:
                pipeline.execute_command(*command)
            found += pipeline.execute(raise_on_error=False)
        return [_checked(client, *each) for each in zip(commands, found, strict=True)]


def _checked(client: Any, command: Command, reply: Any) -> Any:
    if isinstance(reply, NoScriptError):
        return client.execute_command("EVAL", _BY_SHA[str(command[1])].source, *command[2:])
    if isinstance(reply, Exception):
        raise reply
    return reply
