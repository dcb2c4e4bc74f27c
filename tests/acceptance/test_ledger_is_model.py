"""Whatever clients and model servers do, the ledger says what the model server's own books say.

Every dialect, streamed and whole, with and without usage, clients that leave at any chunk, servers that fail or die in
the middle, content that looks like usage. Where the server told its usage the ledger has exactly that; every other
row says that it is not so.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from authz.store.records import Entry, Source
from tests.acceptance.settling import Settling, settling
from tests.support.certificates import Certificates
from tests.support.corpus import KINDS, prompt
from tests.support.envoy import Envoy
from tests.support.nginx import Nginx
from tests.support.simulated import Page
from tests.support.simulator import PATHS, STREAMING
from tests.support.stream_client import StreamClient
from tests.support.traefik import Traefik

REQUESTS = 300
CLIENTS = 12
OPTIONS: tuple[dict[str, bool] | None, ...] = (
    None,
    None,
    {},
    {"include_usage": True},
    {"include_usage": False},
    {"include_usage": True, "continuous_usage_stats": True},
)
KNOWING = (Envoy, Traefik, Nginx)


@pytest.fixture(scope="module", params=KNOWING, ids=[kind.name for kind in KNOWING])
def at(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Settling]:
    with settling(request.param, tmp_path_factory.mktemp("settling"), certificates) as at:
        yield at


def question(path: str, chance: random.Random) -> tuple[dict[str, Any], int | None]:
    """A request, and after how many chunks its client leaves (None: it stays)."""
    kind = chance.choice(KINDS)
    text = prompt(kind, chance.randrange(1, 600), chance)
    output = chance.randrange(1, 80)
    plan: dict[str, Any] = {
        "kind": kind,
        "output": output,
        "seed": chance.random(),
        "usage": chance.random() < 0.8,
        "status": chance.choice([400, 500, 503]) if chance.random() < 0.1 else 200,
        "fake": chance.random() < 0.2,
        "cached": chance.choice([0, 0, 3]),
        "reasoning": chance.choice([0, 0, 2]),
        "pause_ms": chance.choice([0, 0, 3]),
    }
    asked: dict[str, Any] = {"model": "sim", "simulate": plan}
    if path in ("/v1/chat/completions", "/v1/messages"):
        asked["messages"] = [{"role": "user", "content": text}]
    elif path == "/v1/completions":
        asked["prompt"] = text
    elif path == "/v1/rerank":
        asked |= {"query": text[:50], "documents": [text[at : at + 100] for at in range(0, len(text), 100)]}
    else:
        asked["input"] = text
    if path == "/v1/embeddings":
        plan["floats"] = chance.choice([8, 8, 20_000])  # bytes that no buffer may hold up
    if path not in STREAMING:
        return asked, None
    asked["max_output_tokens" if path == "/v1/responses" else "max_tokens"] = (
        output + chance.choice([-5, 0, 100]) or 1
    )
    for name in ("max_tokens", "max_output_tokens"):
        if name in asked:
            asked[name] = max(1, asked[name])
    if path in STREAMING[:2] and chance.random() < 0.3:
        asked["n"] = chance.randrange(1, 4)
    if chance.random() < 0.3:
        return asked, None
    asked["stream"] = True
    if path in STREAMING[:2]:
        options = chance.choice(OPTIONS)
        if options is not None:
            asked["stream_options"] = options
    if chance.random() < 0.05:
        plan["cut"] = chance.randrange(1, output + 1)
    if chance.random() < 0.2:
        plan |= {"leaves": True, "pause_ms": 5}
        return asked, chance.randrange(1, output + 3)
    return asked, None


async def _ask(at: Settling, key: str, questions: Iterator[tuple[str, dict[str, Any], int | None]]) -> int:
    """How often authz did not answer its gateway in time, and was asked again."""
    undecided = 0
    async with StreamClient(at.port, at.tls, key) as client:
        for path, asked, leave in questions:
            try:
                while (reply := await client.post(path, asked, leave_after=leave)).undecided:
                    undecided += 1
            except (EOFError, OSError):
                assert "cut" in asked["simulate"], asked
                client.hang_up()
                continue
            assert reply.status == asked["simulate"]["status"] or "cut" in asked["simulate"], (asked, reply)
    return undecided


@pytest.mark.timeout(240)
def test_ledger_is_model(at: Settling) -> None:
    chance = random.Random(20)
    minted = at.key()
    paths = [PATHS[number % len(PATHS)] for number in range(REQUESTS)]
    questions = iter([(path, *question(path, chance)) for path in paths])

    async def all_at_once() -> int:
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(_ask(at, minted.key, questions)) for _ in range(CLIENTS)]
        return sum(client.result() for client in clients)

    undecided = asyncio.run(all_at_once())
    ledger = at.settled(at.model.books())
    pages = at.model.books()  # not before: of a client that left the server may still have had to learn
    assert len({page.reservation for page in pages}) == len(pages) == REQUESTS
    entries = {name: entry for name, entry in ledger.items() if entry.facts.key == minted.id}
    answered = {page.reservation for page in pages}
    assert entries.keys() >= answered  # no row too few
    assert len(entries.keys() - answered) <= undecided  # none too many
    for stray in entries.keys() - answered:
        assert entries[stray].note.source in (Source.RELEASED, Source.EXPIRED), entries[stray]
    seen = Counter(_judge(page, entries[page.reservation]) for page in pages)
    print(f"\n{at.gateway.name}: {dict(seen)}")
    assert seen["exact"] >= REQUESTS // 3
    assert seen["estimated"] > 10
    assert seen["released"] > 10

    # What `authz usage` adds up is the same.
    (row,) = at.service.run("usage", "--by", "key", "--since", "1h", "--key", minted.id)
    assert row["requests"] == len(entries)
    assert row["input_tokens"] == sum(each.note.usage.input for each in entries.values())
    assert row["output_tokens"] == sum(each.note.usage.output for each in entries.values())


def _judge(page: Page, entry: Entry) -> str:
    usage, source = entry.note.usage, entry.note.source
    charged = (usage.input, usage.output, usage.cached, usage.reasoning)
    about = (page, entry)
    if page.status != 200:
        assert source is Source.RELEASED, about
        assert charged == (0, 0, 0, 0), about
        assert entry.note.status == page.status, about
        return "released"
    if page.finished and page.told is not None and '"leaves"' not in page.asked:
        assert page.told == page.usage, about
        assert source is Source.REPORTED, about
        assert charged == page.usage, about
        return "exact"
    if source is Source.REPORTED:  # the client left, after the server had told or while it counted aloud
        assert page.told is not None, about
        assert page.usage is not None, about
        assert charged[0] == page.usage[0], about
        assert 0 < charged[1] <= page.usage[1], about
        return "exact, left"
    assert source is Source.ESTIMATED, about
    assert usage.input >= 1, about  # never nothing (attack 101)
    assert usage.input <= entry.facts.hold.input, about
    assert usage.output <= entry.facts.hold.output, about
    return "estimated"
