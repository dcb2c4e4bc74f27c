"""One daily limit of 10,000 tokens, 200 requests at once, a thousand runs: never over, and nothing is left lying.

What is charged is kept in books of the test's own: what a request holds while it runs
or when nobody tells, then what it used. Use beyond a hold is debt, and apart.
"""

import random
from pathlib import Path

import pytest
from msgspec import Struct

from authz.quota import Unit
from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store
from authz.store.protocols import Exhausted, Hold, Outcome, Reserved
from authz.store.records import Source
from tests.contract.kit import NOON, Clock, calendar, facts, note, slot
from tests.store.checks import answer
from tests.store.crashing import WAYS, crash_and_recover

LIMIT = 10_000
CLIENTS = 200
TTL = 30_000  # ms
PART = 25  # runs of one test


class Running(Struct):
    """One client: what it asks for and what the model server will have counted."""

    hold: int
    actual: int
    name: str = ""
    deadline: int = 0
    tries: int = 0


class Run:
    """One day of one seed."""

    def __init__(self, seed: int, url: str) -> None:
        self.chance = random.Random(seed)
        self.url = url
        self.clock = Clock(NOON + self.chance.randrange(3_600_000))
        self.store: EmbeddedStore = open_store(url, clock=self.clock)
        self.largest = self.chance.choice([40, 200, 900, 4_000])
        self.overruns = self.chance.random() < 0.3  # some model servers do not keep to the maximum
        self.waiting = [self.client() for _ in range(CLIENTS)]
        self.running: list[Running] = []
        self.expired: list[Running] = []
        self.restarts = 2
        self.within = self.debt = self.admitted = 0
        self.ended: dict[str, tuple[Source, int]] = {}  # request id -> what the ledger is to say

    def client(self) -> Running:
        hold = self.chance.randint(1, self.largest)
        return Running(hold, self.chance.randint(0, hold * 12 // 10 if self.overruns else hold))

    def limit(self, amount: int) -> Hold:
        return calendar(LIMIT, amount, self.clock.now)

    def go(self) -> None:
        """Until every client was refused with nothing in flight, or was served."""
        smallest_refused = 0
        while self.waiting or self.running or self.expired:
            act = self.chance.random()
            if act < 0.45 and self.waiting:
                self.ask(self.chance.choice(self.waiting))
            elif act < 0.85 and self.running:
                self.end(self.chance.choice(self.running))
            elif act < 0.90:
                self.wait(self.chance.choice([1, 500, 5_000, TTL]))
            elif act < 0.93 and self.expired:
                self.correct(self.expired.pop(self.chance.randrange(len(self.expired))))
            elif act < 0.95 and self.running:
                self.extend(self.chance.choice(self.running))
            elif act < 0.96 and self.restarts:
                self.restarts -= 1
                self.restart()
            elif not (self.running or self.expired or any(map(self.ask, list(self.waiting)))):
                smallest_refused = min((each.hold for each in self.waiting), default=0)
                break
        self.check()
        left = LIMIT - self.within - self.debt
        assert not self.waiting or left < smallest_refused, "a client was refused what was left"
        self.check_ledger()
        answer(self.store.close())

    def ask(self, client: Running) -> bool:
        client.tries += 1
        name = f"r{self.admitted}"
        holds = [self.limit(client.hold), slot(CLIENTS)]
        reserved = answer(self.store.counters.reserve(name, "edge", holds, TTL, facts(name)))
        fits = self.within + self.debt + client.hold <= LIMIT
        assert isinstance(reserved, Reserved) is fits, "over, or refused though it fits"
        if isinstance(reserved, Exhausted):
            self.check()
            return False
        client.name, client.deadline = name, self.clock.now + TTL
        self.admitted += 1
        self.within += client.hold
        self.waiting.remove(client)
        self.running.append(client)
        self.check()
        return True

    def end(self, client: Running) -> None:
        """It was answered, or the client left, or no model server was reached."""
        self.running.remove(client)
        way = self.chance.choice(["answered", "answered", "answered", "aborted", "released"])
        used = {"answered": client.actual, "aborted": min(client.actual, client.hold) // 2, "released": 0}[
            way
        ]
        source = {"answered": Source.REPORTED, "aborted": Source.ESTIMATED, "released": Source.RELEASED}[way]
        self.settle(client, used, source, Outcome.SETTLED)

    def correct(self, client: Running) -> None:
        self.settle(client, client.actual, Source.REPORTED, Outcome.CORRECTED)

    def settle(self, client: Running, used: int, source: Source, outcome: Outcome) -> None:
        for expected in (outcome, Outcome.ALREADY):
            done = answer(
                self.store.counters.settle(
                    client.name, "edge", {Unit.TOKENS: used}, note(used, source=source)
                )
            )
            assert done.outcome is expected
        self.within -= max(0, client.hold - used)
        self.debt += max(0, used - client.hold)
        self.ended[client.name] = (Source.CORRECTED if outcome is Outcome.CORRECTED else source, used)
        self.check()

    def wait(self, milliseconds: int) -> None:
        self.clock.pass_(milliseconds)
        over = [client for client in self.running if client.deadline <= self.clock.now]
        self.running = [client for client in self.running if client.deadline > self.clock.now]
        self.expired += [client for client in over if self.chance.random() < 0.7]  # the others never tell
        self.check()

    def extend(self, client: Running) -> None:
        assert answer(self.store.counters.extend(client.name, "edge", TTL, 10 * TTL))
        client.deadline = max(client.deadline, self.clock.now + TTL)
        self.check()

    def restart(self) -> None:
        if self.url == "memory://":
            self.store.keep_up()
        else:
            way = self.chance.choice(WAYS)
            self.store = crash_and_recover(self.store, self.url, self.clock, way)
        self.check()

    def check(self) -> None:
        """Debt apart, no more than the limit; and the store says exactly what the books say."""
        assert 0 <= self.within <= LIMIT
        seen = answer(self.store.counters.peek([self.limit(0)]))
        assert seen.levels[0].remaining == max(0, LIMIT - self.within - self.debt)

    def check_ledger(self) -> None:
        self.clock.pass_(20 * TTL)
        for _ in range(2):
            self.store.keep_up()
            self.store.wait_for_writer()
        entries = self.store.ledger.entries(limit=10_000)
        found = {entry.facts.request_id: (entry.note.source, entry.note.usage.input) for entry in entries}
        assert len(found) == len(entries) == self.admitted
        told = {name: figures for name, figures in found.items() if figures[0] is not Source.EXPIRED}
        assert told == self.ended


@pytest.mark.parametrize("part", range(800 // PART))
def test_never_over_in_memory(part: int) -> None:
    for seed in range(part * PART, (part + 1) * PART):
        Run(seed, "memory://").go()


@pytest.mark.parametrize("part", range(200 // PART))
def test_never_over_on_disk_with_restarts(tmp_path: Path, part: int) -> None:
    for seed in range(part * PART, (part + 1) * PART):
        Run(seed, f"sqlite://{tmp_path}/{seed}.db").go()
