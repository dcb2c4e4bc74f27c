"""The scripts without a link: each call is answered before it returns, so that no event loop is needed."""

from collections.abc import Generator, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError

from authz.store.redis import names
from authz.store.redis.link import Script, Undo, Word


class Answered:
    """What is known already, to be awaited."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, Any]:
        return self.value
        yield


_KEEP = "for _, name in ipairs(redis.call('KEYS', '*')) do redis.call('PERSIST', name) end"


class DirectLink:
    """A `Link` to one server for a test of scripts. The last `undo` is kept in `undos`.

    With `keep_all` no key has a TTL once the script is over: time passes by the test's clock alone.
    """

    trouble = None

    def __init__(self, port: int, shards: tuple[str, ...] = names.SINGLE) -> None:
        self.shards = shards
        self.connection = redis.Connection(port=port, protocol=2, socket_timeout=30)
        self.undos: list[Undo] = []
        self.calls = 0
        self.keep_all = False

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        budget_ms: int = 0,
        undo: Undo | None = None,
    ) -> Any:
        self.calls += 1
        if undo is not None:
            self.undos[:] = [undo]
        words = (len(keys), *keys, *args)
        try:
            return Answered(self._ask("EVALSHA", script.sha, *words))
        except NoScriptError:
            return Answered(self._ask("EVAL", script.source, *words))

    def command(self, *words: Word, key: str = "", budget_ms: int = 0) -> Any:
        return Answered(self._ask(*words))

    def _ask(self, *words: Word) -> Any:
        """What follows a script leaves in the same write, so that nothing can come between."""
        commands = [words]
        if self.keep_all and words[0] != "DEL":
            commands.append(("EVAL", _KEEP, 0))
        packed = b"".join(part for command in commands for part in self.connection.pack_command(*command))
        self.connection.send_packed_command([packed])
        answers = []
        for _ in commands:
            try:
                answers.append(self.connection.read_response())
            except redis.ResponseError as error:
                answers.append(error)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    async def start(self) -> None:
        self.connection.connect()

    async def close(self) -> None:
        self.connection.disconnect()


def at_once(question: Any) -> Any:
    """The answer of a coroutine that never suspends."""
    try:
        question.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store waited for something")
