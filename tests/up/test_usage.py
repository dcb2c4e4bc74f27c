"""What a chat through `authz up` used is in the ledger at once."""

from collections.abc import Iterator
from contextlib import suppress

import openai
import pytest

from authz.store.open import open_view
from authz.store.protocols import UsageRow
from tests.up.running import RunningUp, eventually


@pytest.fixture
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    running = RunningUp(tmp_path_factory.mktemp("usage") / "run", "--demo")
    try:
        yield running.ready()
    finally:
        running.stop()


def client(up: RunningUp) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{up.told['gateway']}/v1", api_key=up.told["key"], max_retries=0)


def chat(sdk: openai.OpenAI) -> tuple[int, int]:
    """Input and output tokens of a streamed answer, as the client was told. It did not ask to be told."""
    told = None
    for chunk in sdk.chat.completions.create(
        model="demo",
        stream=True,
        messages=[{"role": "user", "content": "hello"}],
    ):
        told = chunk.usage or told
    assert told is not None, "usage was asked for on the way"
    return told.prompt_tokens, told.completion_tokens


def used(up: RunningUp, *by: str) -> list[UsageRow]:
    view = open_view(f"sqlite://{up.directory / 'authz.db'}")
    try:
        return list(view.ledger.usage(since=0, until=1 << 42, by=by))
    finally:
        with suppress(StopIteration):
            view.close().send(None)


def requests(up: RunningUp) -> int:
    return sum(row.requests for row in used(up, "user"))


def test_a_chat_is_in_the_ledger_within_a_second(up: RunningUp) -> None:
    with client(up) as sdk:
        whole = sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}]).usage
        assert whole is not None
        eventually(lambda: requests(up) == 1, 3)
        read, written = chat(sdk)
        eventually(lambda: requests(up) == 2, 3)
    (row,) = used(up, "user", "model", "gateway", "source")
    assert tuple(row.group.values()) == ("demo", "demo", "envoy", "reported")
    assert (row.input_tokens, row.output_tokens) == (
        whole.prompt_tokens + read,
        whole.completion_tokens + written,
    )
