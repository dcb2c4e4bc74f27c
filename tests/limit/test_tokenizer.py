"""Input counted by a tokenizer: exact for texts, an upper bound for the rest, never above the bytes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from authz.config import ConfigErrors, loads
from authz.decision import Allow
from authz.limit import tokenizer as counting
from authz.limit.tokenizer import LARGEST_AT_ONCE, LARGEST_COUNTED, PER_OBJECT, read_tokenizer
from tests.support.lab import Lab, step

PROSE = "The quota is held before the request and settled after it. " * 40


def trained() -> Tokenizer:
    """A byte-level BPE, as Llama's and Qwen's are, of the words above."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([PROSE], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    trained().save(str(path))
    return path


def count(path: Path, **members: Any) -> int:
    counted = read_tokenizer(path).count(json.dumps({"model": "m", **members}, ensure_ascii=False).encode())
    assert counted is not None
    return counted


def exact(path: Path, text: str) -> int:
    return len(Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False))


def test_the_texts_are_counted_exactly(path: Path) -> None:
    inside = "settled after the request \u20ac \u65e5\u672c\u8a9e \U0001f600"
    alone = exact(path, inside)
    message = PER_OBJECT + exact(path, "user") + alone
    parts = [{"type": "text", "text": inside}]
    assert count(path, prompt=inside) == alone
    assert count(path, prompt=[inside, inside]) == 2 * alone
    assert count(path, prompt=[1, 2, 3]) == 3
    assert count(path, messages=[{"role": "user", "content": inside}] * 2) == 2 * message
    assert count(path, messages=[{"role": "user", "content": parts}]) == message + PER_OBJECT + exact(path, "text")  # fmt: skip
    assert count(path, system=inside, instructions=inside) == 2 * alone


def test_tools_are_counted_as_the_widest_template_prints_them(path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    wide = json.dumps(tools, indent=4)
    assert count(path, tools=tools) == exact(path, wide)


def test_a_control_token_in_a_text_is_reckoned_as_text(path: Path) -> None:
    """Some servers split it, some do not: the bound takes the longer."""
    assert exact(path, "<|im_end|>") == 1
    assert count(path, prompt="<|im_end|>" * 10) > 10


def test_truncation_in_the_file_truncates_nothing(path: Path, tmp_path: Path) -> None:
    tokenizer = trained()
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=500)
    other = tmp_path / "truncating.json"
    tokenizer.save(str(other))
    assert count(other, prompt=PROSE) == count(path, prompt=PROSE)


def test_what_is_too_much_is_left_to_the_bytes(path: Path) -> None:
    counter = read_tokenizer(path)
    assert counter.count(json.dumps({"prompt": ["a"] * 5000}).encode()) is None

    async def asked(size: int) -> int | None:
        return await counter(json.dumps({"prompt": "x" * size}).encode())

    assert asyncio.run(asked(LARGEST_COUNTED)) is None


async def test_large_bodies_are_counted_beside_and_few_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = read_tokenizer(path)
    body = json.dumps({"prompt": PROSE * 3}).encode()
    assert len(body) > LARGEST_AT_ONCE
    waiting = [asyncio.ensure_future(counter(body)) for _ in range(counting.MOST_WAITING + 3)]
    found = await asyncio.gather(*waiting)
    assert found.count(None) == 3
    assert set(found) - {None} == {counter.count(body)}


CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {max_output: 100, tokenizer: PATH}, bytes: {max_output: 100}}
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
"""


def test_a_decision_holds_what_was_counted(path: Path) -> None:
    lab = Lab(CONFIG.replace("PATH", str(path)))
    key = lab.key("alice", "input_tokens=1M/day")

    def held(**members: Any) -> int:
        body = json.dumps(members, ensure_ascii=False).encode()
        decision = step(lab.decider.decide(lab.request(key=key, body=body)))
        assert isinstance(decision, Allow)
        return decision.limits[0].limit.needed

    messages = [{"role": "user", "content": PROSE[:600]}]
    counted, by_bytes = held(model="llama3", messages=messages), held(model="bytes", messages=messages)
    assert counted < by_bytes / 2
    assert counted >= exact(path, PROSE[:600])
    # Never above the bytes, whatever the overheads say.
    few = [{"role": "", "content": ""}] * 20
    assert held(model="llama3", messages=few) <= held(model="bytes", messages=few) + 1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"{}", "this is no tokenizer.json"), (b"\xff", "this is no tokenizer.json")],
    ids=["missing", "no tokenizer", "no text"],
)
def test_a_file_that_is_none_is_a_mistake_at_its_place(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigErrors) as raised:
        loads(f"models:\n  m: {{tokenizer: {path}}}\n", read_tokenizer=read_tokenizer)
    (problem,) = raised.value.problems
    assert (problem.line, problem.column, message in problem.message) == (2, 18, True)
    assert path in raised.value.files  # it is looked at again when it changes


def test_the_package_is_named_where_it_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'llm-authz\[tokenizers\]'"):
        read_tokenizer(path)


def test_a_file_is_read_again_only_when_it_changed(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    first = read_tokenizer(copy)
    assert read_tokenizer(copy) is first
    copy.write_bytes(path.read_bytes() + b"\n")
    assert read_tokenizer(copy) is not first


def test_commands_that_need_no_tokenizer_read_none(tmp_path: Path) -> None:
    loads("models: {m: {tokenizer: nowhere.json}}", directory=tmp_path)
