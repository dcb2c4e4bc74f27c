"""200 streams at once on one quota of 10,000 tokens a day: never over, and used to the last hold that fits."""

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from authz.authenticate.key_format import MintedKey
from authz.store.records import Source
from tests.acceptance.lab import GATEWAYS, eventually
from tests.acceptance.settling import Settling, settling, total
from tests.support.certificates import Certificates
from tests.support.stream_client import Reply, StreamClient

QUOTA = 10_000
CLIENTS = 200
RUNS = {"envoy": 20, "traefik": 5, "nginx": 5, "caddy": 5}
PATH = "/v1/chat/completions"


@dataclass
class Crowd:
    """The clients of one key, all at once."""

    at: Settling
    key: str
    chance: random.Random
    streaming: int = 0  # answers that are being read
    answered: int = 0
    left: int = 0  # on purpose, in the middle
    undecided: int = 0  # authz did not answer its gateway in time

    async def run(self) -> None:
        """Returns once everybody was refused while nobody was being answered.

        They come back ever more slowly: else a busy machine would have somebody to answer at any time.
        """
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client())

    async def _client(self) -> None:
        tries = 0
        async with StreamClient(self.at.port, self.at.tls, self.key) as client:
            while True:
                quiet = self.streaming == 0
                self.streaming += 1
                asked, leave = question(self.chance), None
                if self.chance.random() < 0.1:
                    leave = self.chance.randrange(1, 10)
                    asked["simulate"] |= {"leaves": True, "pause_ms": 5}
                reply = await client.post(PATH, asked, leave_after=leave)
                self.streaming -= 1
                if reply.status == 200:
                    self.answered += 1
                    self.left += not reply.whole
                    continue
                if reply.undecided:
                    self.undecided += 1
                else:
                    assert_refused(reply)
                    if quiet or self.streaming == 0:
                        return
                tries += 1
                await asyncio.sleep(self.chance.uniform(0.1, 0.5) * tries)


def question(chance: random.Random) -> dict[str, Any]:
    """A stream that uses a part of what it may."""
    output = chance.randrange(1, 120)
    return {
        "model": "sim",
        "messages": [{"role": "user", "content": "x" * chance.randrange(1, 200)}],
        "max_tokens": output + chance.randrange(0, 400),
        "stream": True,
        "simulate": {"output": output, "seed": chance.random()},
    }


def assert_refused(reply: Reply) -> int:
    """It is a refusal for this quota, and right. The hold that did not fit."""
    assert reply.status == 429, (reply.status, reply.body)
    message = reply.json["error"]["message"]
    needed, left = re.search(r"needed (\d+)", message), re.search(rf"left (\d+) of {QUOTA} tokens", message)
    assert needed is not None, reply.body
    assert left is not None, reply.body
    assert int(left[1]) < int(needed[1]), reply.body
    return int(needed[1])


async def _fill(crowd: Crowd) -> int:
    """One client alone, each request settled before the next: the smallest hold that is refused."""
    at, refused = crowd.at, []
    async with StreamClient(at.port, at.tls, crowd.key) as client:
        while len(refused) < 5:
            at.settled([page for page in at.model.books() if page.status == 200])
            reply = await client.post(PATH, question(crowd.chance))
            crowd.undecided += reply.undecided
            if reply.status != 200 and not reply.undecided:
                refused.append(assert_refused(reply))
    return min(refused)


@pytest.fixture(scope="module", params=GATEWAYS, ids=[kind.name for kind in GATEWAYS])
def at(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Settling]:
    with settling(request.param, tmp_path_factory.mktemp("settling"), certificates) as at:
        yield at


@pytest.mark.timeout(900)
def test_never_over(at: Settling) -> None:
    runs = [_run(at, random.Random(number)) for number in range(RUNS[at.gateway.name])]
    answered, left, undecided = (sum(figures) for figures in zip(*runs, strict=True))
    print(
        f"\n{at.gateway.name}: {len(runs)} runs, {answered} answers, {left} left early, {undecided} undecided, none over"
    )
    assert left > 0


def _run(at: Settling, chance: random.Random) -> tuple[int, int, int]:
    """How many answers there were, of how many the client left before the end, and how many asked in vain."""
    at.model.reset()
    minted = at.key(f"tokens={QUOTA}/day")
    crowd = Crowd(at, minted.key, chance)
    most = asyncio.run(_watched(crowd, at, minted))
    smallest = asyncio.run(_fill(crowd))
    pages = at.model.books()
    ledger = at.settled(pages)
    entries = [ledger[page.reservation] for page in pages]

    # Never over: while it ran, in the end, and by the model server's own books as far as it told them.
    used, held = at.used_and_held(minted)
    assert most <= QUOTA
    assert used + held <= QUOTA
    if crowd.undecided:  # what was held for them is in the ledger once it expired, or the gateway told
        eventually(lambda: total([*at.entries(minted).values()]).tokens == at.used_and_held(minted)[0])
    else:
        charged = total(entries).tokens
        assert (charged, 0) == (used, held)
        assert charged == total([*at.entries(minted).values()]).tokens
        assert QUOTA - charged < smallest, (charged, smallest)
    aborted = sum(entry.note.aborted for entry in entries)
    assert aborted <= crowd.left
    for page, entry in zip(pages, entries, strict=True):
        if at.gateway.name == "caddy":
            assert entry.note.source is Source.ESTIMATED
        elif page.finished and not entry.note.aborted:
            # A client may leave between the model's last byte and the gateway's reading it: then nobody told.
            assert entry.note.source is Source.REPORTED
            assert (entry.note.usage.input, entry.note.usage.output) == (page.usage or ())[:2]
        else:
            assert entry.note.source in (Source.ESTIMATED, Source.REPORTED)
    assert crowd.answered >= len(pages) * 9 // 10 - 5
    return len(pages), crowd.left, crowd.undecided


async def _watched(crowd: Crowd, at: Settling, minted: MintedKey) -> int:
    """The most that was charged at any moment at which it was looked."""
    most = 0
    running = asyncio.create_task(crowd.run())
    while not running.done():
        most = max(most, await asyncio.to_thread(at.used, minted))
        await asyncio.sleep(0.2)
    await running
    return most
