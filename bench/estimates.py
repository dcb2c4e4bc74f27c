"""How far the estimate is off where nobody counted, on text that it never learned from.

`python -m bench.estimates`: a byte-pair tokenizer counts; the calibration learns from prose and code
(mixed, as a shared model sees it), then from each kind under a key of its own. Median and 90th
percentile of |estimated - counted| / counted, over requests and answers of other text.
"""

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from authz.ledger.calibration import Calibration
from authz.store.records import Facts, Note
from authz.usage import Usage
from tests.support.corpus import KINDS, text, train

TAUGHT_WITH = ("prose", "code")
LESSONS = 60  # a kind
TRIALS = 60
CHUNK = '{"id":"chatcmpl-5f3e9a7c2b1d4e8f9a6b7c8d9e0f1a2b","object":"chat.completion.chunk","created":1790000000,"model":"llama3","choices":[{"index":0,"delta":{"content":%s},"logprobs":null,"finish_reason":null}]}'
WHOLE = '{"id":"chatcmpl-5f3e9a7c2b1d4e8f9a6b7c8d9e0f1a2b","object":"chat.completion","created":1790000000,"model":"llama3","choices":[{"index":0,"message":{"role":"assistant","content":%s},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":100,"total_tokens":200}}'


class Talk:
    """One request and its answer: their bytes, and what a tokenizer counts in them."""

    def __init__(self, tokenizer: Tokenizer, source: str, chance: random.Random, streamed: bool) -> None:
        asked = _some(source, chance.randrange(80, 6000), chance)
        words = _pieces(tokenizer, _some(source, 5000, chance), chance.randrange(20, 800))
        message: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": asked}]}
        sent = json.dumps({**message, "max_tokens": 2048, "stream": streamed}, ensure_ascii=False)
        self.request = len(sent.encode())
        self.read = len(tokenizer.encode(asked).ids) + 12  # and the template
        self.written = len(tokenizer.encode("".join(words)).ids)
        plain = [json.dumps(word, ensure_ascii=False) for word in words]
        self.response = (
            sum(len(b"data: " + (CHUNK % word).encode() + b"\n\n") for word in plain) + 2 * len(CHUNK) + 14
            if streamed
            else len((WHOLE % json.dumps("".join(words), ensure_ascii=False)).encode())
        )
        self.streamed = streamed

    def facts(self, key: str) -> Facts:
        return Facts(
            request_id="q",
            user="u",
            key=key,
            model="llama3",
            path="/v1/chat/completions",
            hold=Usage(10**7, 10**7),
            stream=self.streamed,
            request_bytes=self.request,
        )

    def note(self) -> Note:
        return Note(
            usage=Usage(self.read, self.written),
            status=200,
            streamed=self.streamed,
            response_bytes=self.response,
        )


def _some(source: str, length: int, chance: random.Random) -> str:
    start = chance.randrange(len(source) - length)
    return source[start : start + length]


def _pieces(tokenizer: Tokenizer, source: str, count: int) -> list[str]:
    """Token by token, as a model server sends them: one that is part of a character waits for the rest."""
    found, waiting = [], []
    for each in tokenizer.encode(source).ids[:count]:
        waiting.append(each)
        decoded = tokenizer.decode(waiting)
        if "\ufffd" not in decoded:
            found.append(decoded)
            waiting = []
    return found


def errors(learned: Calibration, key: str, talks: Sequence[Talk]) -> tuple[list[float], list[float]]:
    """Of input and output, sorted."""
    read = [abs(learned.input(t.facts(key), t.streamed) - t.read) / t.read for t in talks]
    written = [
        abs(learned.output(t.facts(key), t.response, t.streamed) - t.written) / t.written for t in talks
    ]
    return sorted(read), sorted(written)


def figures(found: list[float]) -> str:
    return f"{found[len(found) // 2]:7.1%} {found[len(found) * 9 // 10]:7.1%}"


def measure() -> list[tuple[str, str, str, list[float], list[float]]]:
    """(kind, framing, calibration, errors of input, errors of output)."""
    with tempfile.TemporaryDirectory() as directory:
        tokenizer = train(Path(directory) / "tokenizer.json")
    rows = []
    for streamed in (False, True):
        chance = random.Random(1)

        def talks(source: str, count: int) -> list[Talk]:
            return [Talk(tokenizer, source, chance, streamed) for _ in range(count)]  # noqa: B023

        taught = {kind: text(kind)[: len(text(kind)) // 2] for kind in KINDS}
        unseen_text = {kind: text(kind)[len(text(kind)) // 2 :] for kind in KINDS}
        mixed = Calibration()
        lessons = [talk for kind in TAUGHT_WITH for talk in talks(taught[kind], LESSONS)]
        chance.shuffle(lessons)
        for talk in lessons:
            mixed.teach(talk.facts("somebody"), talk.note())
        for kind in KINDS:
            own = Calibration()
            for talk in talks(taught[kind], LESSONS):
                own.teach(talk.facts(kind), talk.note())
            unseen = talks(unseen_text[kind], TRIALS)
            framing = "stream" if streamed else "json"
            rows.append((kind, framing, "none", *errors(Calibration(), kind, unseen)))
            rows.append((kind, framing, "mixed", *errors(mixed, "another", unseen)))
            rows.append((kind, framing, "per key", *errors(own, kind, unseen)))
    return rows


def main() -> None:
    print(
        f"{'kind':<8}{'framing':<9}{'calibration':<13}{'input: median     p90':>20}{'output: median    p90':>26}"
    )
    for kind, framing, how, read, written in measure():
        print(f"{kind:<8}{framing:<9}{how:<13}{figures(read):>20}{figures(written):>26}")


if __name__ == "__main__":
    main()
