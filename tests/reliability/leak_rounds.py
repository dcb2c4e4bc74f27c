"""Rounds of sudden death in the middle of streams, and what must be true after each."""

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from authz.authenticate.key_format import MintedKey
from authz.store.levels import Standing
from authz.store.open import wall_clock
from tests.acceptance.settling import Settling, settling, total
from tests.support.certificates import make_certificates
from tests.support.envoy import Envoy
from tests.support.stream_client import StreamClient

LEASE = 3.0  # seconds; see `settling`
BUSY = 3.0  # seconds more, for a machine that has other work
STREAMS = 8
VICTIMS = ("envoy", "authz", "clients")


@dataclass
class Figures:
    """Over all rounds."""

    deaths: int = 0
    cut: int = 0  # streams that did not reach their end
    sources: Counter[str] = field(default_factory=Counter)
    freed_after_death: dict[str, list[float]] = field(default_factory=dict)  # seconds
    freed_after_end: list[float] = field(default_factory=list)


def leak_rounds(scratch: Path, rounds: int) -> Figures:
    """Raises AssertionError where something leaked."""
    chance, figures = random.Random(3), Figures()
    with settling(Envoy, scratch, make_certificates(scratch), lease=LEASE) as at:
        for number in range(rounds):
            _round(at, VICTIMS[number % len(VICTIMS)], chance, figures)
    return figures


def _round(at: Settling, victim: str, chance: random.Random, figures: Figures) -> None:
    at.model.reset()
    minted = at.key("concurrency=50", "tokens=10000000/day")
    finished = asyncio.run(_streams(at, minted, victim, chance, figures))
    figures.cut += STREAMS - finished
    died = time.monotonic()
    figures.deaths += 1
    if victim == "envoy":
        at.gateway.start()
    elif victim == "authz":
        at.service.start()
        died = time.monotonic()  # nobody could free a slot before
    while running(at, minted):
        assert time.monotonic() - died < LEASE + 1 + BUSY, f"slots stay taken after the death of {victim}"
        time.sleep(0.05)
    figures.freed_after_death.setdefault(victim, []).append(round(time.monotonic() - died, 2))

    # What ends as it should is free at once.
    assert asyncio.run(_streams(at, minted, None, chance, figures)) == STREAMS
    ended = time.monotonic()
    while running(at, minted):
        assert time.monotonic() - ended < LEASE, "slots are not freed by the end of their streams"
        time.sleep(0.02)
    figures.freed_after_end.append(round(time.monotonic() - ended, 2))

    # Nothing is unaccounted: each request that reached the model has its row, and the counter is the sum of the rows.
    at.settled(at.model.books())
    entries = list(at.entries(minted).values())
    figures.sources.update(str(each.note.source) for each in entries)
    assert total(entries).tokens == at.used(minted, "tokens=10000000/day")
    assert len(entries) >= STREAMS + finished


def running(at: Settling, minted: MintedKey) -> int:
    """Slots of a key that are taken, as the service committed it last."""
    levels = at.service.registry.counter_levels("key:concurrency=50")
    standings = [
        msgspec.msgpack.decode(each, type=Standing) for name, each in levels.items() if minted.id in name
    ]
    return sum(deadline > wall_clock() for each in standings for _, deadline, _ in each.running)


async def _streams(
    at: Settling, minted: MintedKey, victim: str | None, chance: random.Random, figures: Figures
) -> int:
    """So many streams at once; `victim` dies in the middle of them. How many reached their end."""
    clients = [StreamClient(at.port, at.tls, minted.key) for _ in range(STREAMS)]
    asked = [_question(chance) for _ in clients]
    streams = [
        asyncio.create_task(client.post("/v1/chat/completions", each))
        for client, each in zip(clients, asked, strict=True)
    ]
    if victim is not None:
        while len(at.model.books()) < STREAMS // 2:
            await asyncio.sleep(0.005)
        await asyncio.sleep(chance.uniform(0, 0.3))
        if victim == "clients":
            for client in clients:
                client.hang_up()
        else:
            process = at.gateway.process if victim == "envoy" else at.service.process
            assert process is not None
            process.signal(signal.SIGKILL)
            process.wait()
    replies = await asyncio.gather(*streams, return_exceptions=True)
    for client in clients:
        client.hang_up()
    return sum(
        not isinstance(reply, BaseException) and reply.whole and reply.status == 200 for reply in replies
    )


def _question(chance: random.Random) -> dict[str, Any]:
    return {
        "model": "sim",
        "messages": [{"role": "user", "content": "how long?"}],
        "max_tokens": 400,
        "stream": True,
        "simulate": {"output": chance.randrange(40, 60), "pause_ms": 10, "seed": chance.random()},
    }
