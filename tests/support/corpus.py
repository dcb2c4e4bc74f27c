"""Text of several kinds, and a byte-pair tokenizer trained on some of it.

Prose and code are the standard library's own; Chinese is drawn by a Zipf law, as
characters of a language are; base64 is noise. Everything is the same in every run.
"""

import base64
import inspect
import json
import random
from functools import cache
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TRAINED_ON = 100_000  # characters of each kind
KINDS = ("prose", "code", "cjk", "base64")
_MODULES: tuple[str, ...] = (
    "argparse",
    "asyncio.events",
    "decimal",
    "difflib",
    "email.message",
    "http.client",
    "logging",
    "mailbox",
)
_MODULES += (
    "optparse",
    "pathlib",
    "pickle",
    "shutil",
    "statistics",
    "subprocess",
    "tarfile",
    "unittest.mock",
)


@cache
def text(kind: str) -> str:
    """Some hundred thousand characters of one kind."""
    if kind == "code":
        return "\n".join(_sources())
    if kind == "prose":
        return "\n".join(_docstrings())
    chance = random.Random(7)
    if kind == "cjk":
        characters = [chr(0x4E00 + chance.randrange(0x5000)) for _ in range(3000)]
        weights = [1 / (rank + 1) for rank in range(3000)]
        drawn = iter(chance.choices(characters, weights, k=150_000))
        return "".join("".join(islice(drawn, chance.randrange(5, 20))) + "\u3002" for _ in range(10_000))
    assert kind == "base64"
    return base64.b64encode(chance.randbytes(150_000)).decode()


def _sources() -> list[str]:
    return [Path(inspect.getfile(__import__(name, fromlist=["x"]))).read_text() for name in _MODULES]


def _docstrings() -> list[str]:
    found = []
    for name in _MODULES:
        module = __import__(name, fromlist=["x"])
        for _, member in sorted(
            inspect.getmembers(module, lambda each: inspect.isclass(each) or inspect.isroutine(each))
        ):
            found.append(inspect.getdoc(member) or "")
            if inspect.isclass(member):
                found += [
                    inspect.getdoc(each) or ""
                    for _, each in sorted(inspect.getmembers(member, inspect.isroutine))
                ]
    return sorted({each for each in found if len(each) > 40})


def train(path: Path, *, kinds: tuple[str, ...] = ("prose", "code", "cjk"), size: int = 2000) -> Tokenizer:
    """A byte-level BPE tokenizer, saved as `tokenizer.json` at `path`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([text(kind)[:TRAINED_ON] for kind in kinds], trainer)
    tokenizer.save(str(path))
    return tokenizer


def pieces(tokenizer: Tokenizer, kind: str, count: int, chance: random.Random) -> list[str]:
    """`count` tokens of text, one by one. A token that is part of a character stands with its neighbours.

    So that each piece is whole text, pieces may hold a few tokens; `len(encode(joined))` is what counts.
    """
    source = text(kind)
    start = chance.randrange(max(1, len(source) - 6 * count))
    ids = tokenizer.encode(source[start : start + 6 * count + 64]).ids[:count]
    found, waiting = [], []
    for each in ids:
        waiting.append(each)
        decoded = tokenizer.decode(waiting)
        if "\ufffd" not in decoded:
            found.append(decoded)
            waiting = []
    return found


def prompt(kind: str, length: int, chance: random.Random) -> str:
    """About `length` characters of one kind."""
    source = text(kind)
    start = chance.randrange(max(1, len(source) - length))
    return source[start : start + length]


if __name__ == "__main__":
    sizes = {kind: len(text(kind)) for kind in KINDS}
    print(json.dumps(sizes))
