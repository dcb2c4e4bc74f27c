"""What a response probably used, where nobody counted: learned from those that were counted.

How many tokens a byte makes depends on what is written (prose, code, Chinese) and
on how the answer is framed (one JSON document, or an event for each token). So it
is learned apart for each key, model and kind of answer, as far as there is enough
to learn from.
"""

from authz.ledger.line import MEMORY, Line
from authz.store.records import Facts, Note, Source

MOST_SCOPES = 20_000
ENOUGH = 5
"""Answers that a scope must have seen before it is asked."""

INPUT_PER_BYTE = 0.3  # before anything was learned
OUTPUT_PER_BYTE = {False: 0.3, True: 1 / 150}  # an event of a stream is some 200 bytes around one token

_DECAY = 1 - 1 / MEMORY
_FRAMED_APART = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})

_Scope = tuple[str, str, str, bool]


class _Seen:
    """What was seen in one scope."""

    __slots__ = ("answers", "input", "output", "written")

    def __init__(self) -> None:
        self.input = Line()  # tokens over bytes of the request
        self.output = Line()  # tokens over bytes of the response
        self.answers = 0.0  # how many, the older the fainter
        self.written = 0.0  # tokens of them


class Calibration:
    """Bounded, and nobody's but one thread's."""

    def __init__(self, most: int = MOST_SCOPES) -> None:
        """`most` scopes are kept, those that were taught last."""
        self._most = most
        self._seen: dict[_Scope, _Seen] = {}

    def teach(self, facts: Facts, note: Note) -> None:
        """Learn from a settled request: only from what a model server counted, and from whole answers."""
        if note.aborted or note.source is not Source.REPORTED:
            return
        usage = note.usage
        for scope in _scopes(facts, note.streamed):
            seen = self._at(scope)
            if facts.request_bytes > 0 and usage.input > 0:
                seen.input.add(facts.request_bytes, usage.input)
            if usage.output > 0:
                answers = max(facts.answers, 1)
                seen.answers = seen.answers * _DECAY + answers
                seen.written = seen.written * _DECAY + usage.output
                if note.response_bytes > 0:
                    seen.output.add(note.response_bytes, usage.output)

    def input(self, facts: Facts, streamed: bool) -> int:
        """Tokens read, by the bytes of the request's body."""
        size = facts.request_bytes
        lines = [seen.input for scope in _scopes(facts, streamed) if (seen := self._seen.get(scope))]
        return _clamped(_at(size, lines, size * INPUT_PER_BYTE), facts.hold.input)

    def output(self, facts: Facts, response_bytes: int, streamed: bool) -> int:
        """Tokens written, by the bytes of the response's body."""
        lines = [seen.output for scope in _scopes(facts, streamed) if (seen := self._seen.get(scope))]
        untaught = response_bytes * OUTPUT_PER_BYTE[streamed]
        return _clamped(_at(response_bytes, lines, untaught), facts.hold.output)

    def typical(self, facts: Facts, streamed: bool) -> int:
        """Tokens that such a request's answers have on average; of a model never seen: the hold."""
        for scope in _scopes(facts, streamed)[:2]:
            seen = self._seen.get(scope)
            if seen is not None and seen.answers > ENOUGH - 0.5:
                mean = seen.written / seen.answers
                return _clamped(mean * max(facts.answers, 1), facts.hold.output)
        return facts.hold.output

    def _at(self, scope: _Scope) -> _Seen:
        seen = self._seen.pop(scope, None)
        if seen is None:
            if len(self._seen) >= self._most:
                del self._seen[next(iter(self._seen))]
            seen = _Seen()
        self._seen[scope] = seen
        return seen


def _scopes(facts: Facts, streamed: bool) -> tuple[_Scope, _Scope, _Scope]:
    """From the narrowest to the widest."""
    api = facts.path if facts.path in _FRAMED_APART else ""
    who = facts.key or f"user:{facts.user}"
    return (who, facts.model, api, streamed), ("", facts.model, api, streamed), ("", "", api, streamed)


def _at(size: int, lines: list[Line], untaught: float) -> float:
    """By the narrowest line that has seen enough, but no less than half of what the next wider one says.

    A key's owner can teach it answers of many bytes and few tokens (`logprobs`, long ids), and then leave
    streams early; not so easily all who ask that model.
    """
    taught = [line.at(size) for line in lines if line.count > ENOUGH - 0.5][:2]
    if not taught:
        return untaught
    return taught[0] if len(taught) == 1 else max(taught[0], taught[1] / 2)


def _clamped(tokens: float, hold: int) -> int:
    return min(max(round(tokens), 1), hold)
