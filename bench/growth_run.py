"""A service with so many keys, each with a counter: what a decision costs, and the longest pause.

`python -m bench.growth_run KEYS` prints JSON. A process of its own for each size, since memory that was used once
is not given back. All keys ask once, which makes their counters and shows every growth of a table; then
`DECISIONS` requests of keys drawn evenly, and as many by Zipf's law. Every request is settled. In turns with them a
second service in the same process decides for `FEW` keys: how fast the machine is changes from minute to minute.
"""

import gc
import random
import sys
import time
from collections import deque
from hashlib import sha256
from itertools import accumulate

import msgspec

from authz.collector import Collector
from authz.decision import Allow
from authz.report import Report
from authz.store.counter_table import CounterTable
from authz.store.embedded import TICK_S
from authz.store.records import Key
from bench.machine import resident_bytes
from tests.support.lab import EDGE, Lab, step

DECISIONS = 20_000
BATCHES = 10
FEW = 100
BETWEEN = 10_000  # new counters at a time
BETWEEN_UPKEEPS = 400  # requests: 2,000 in a second
RUNNING = 500  # requests at a time
_EXPONENT = 1.1
CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: edge-token-of-the-bench}}
authenticators: {keys: {type: api_key}}
models: {llama3: {context: 8192, max_output: 2048}}
routes:
  - {name: one, match: {paths: [/one]}, authenticate: {any_of: [keys]}, authorize: [{models: any}], limits: [key-minute]}
limits:
  key-minute: {unit: requests, quota: 1000000, window: 1h, partition_by: [key]}
"""


class Figures(msgspec.Struct, frozen=True):
    """Of one size."""

    keys: int
    few_us: float  # CPU for each decision among `FEW` keys, in turns with the next two
    uniform_us: float
    zipf_us: float
    growing_us: float  # the same while counters are made
    pause_ms: float  # the longest decision, settlement, collection or upkeep, by both of `moment`'s clocks
    bytes_per_key: float  # of its record
    bytes_per_caller: float  # what the first request of each leaves: its counter, what is kept of the caller, an entry in the ledger
    bytes_per_counter: float  # of those the counter alone: name, state, and its place in a table
    admitted: int  # of `expected`
    expected: int


def record(number: int) -> Key:
    """An imported key, of one of a thousand users: quicker to make than a minted one."""
    secret = key(number)
    return Key(
        id=f"key_{number:016d}",
        digest=sha256(secret.encode()).digest(),
        display="bench-",
        user=f"u{number % 1000}",
        created_at=0,
    )


def key(number: int) -> str:
    """The text that stands for it."""
    return f"bench-{sha256(number.to_bytes(8, 'big')).hexdigest()[:40]}"


def bytes_of_counters(lab: Lab) -> float:
    """What another table of the same counters takes, for each."""
    there = list(lab.store._engine.tables.counters.items())
    gc.collect()
    before = resident_bytes()
    again = CounterTable()
    for name, state in there:
        again["".join([name[:1], name[1:]])] = state  # a text of its own
    return max(0, resident_bytes() - before) / len(again)


def moment() -> tuple[float, float]:
    """By the thread's CPU and by the wall, in seconds.

    A virtual machine's CPU clock is corrected in lumps for what its host took: several ms within 0.1 ms of the wall.
    """
    return time.thread_time(), time.perf_counter()


class _Course:
    """What a service does: it decides, is told some requests later what each used, and keeps its store up."""

    def __init__(self, lab: Lab) -> None:
        self.longest = 0.0  # seconds
        self.admitted = 0
        self._lab = lab
        self._running: deque[str] = deque()  # reservations
        self._collecting = moment()

    def collector(self, phase: str, _: object) -> None:
        """Told of each garbage collection, also of those between two decisions."""
        if phase == "start":
            self._collecting = moment()
        else:
            self._took(self._collecting)

    def decide(self, drawn: list[str]) -> float:
        """CPU seconds of the decisions alone. The longest of anything is kept."""
        lab, total = self._lab, 0.0
        decide = lab.decider.decide
        for at, each in enumerate(drawn, 1):
            asked = lab.request(target="/one", key=each)
            begun = moment()
            decision = step(decide(asked))
            total += self._took(begun)
            if isinstance(decision, Allow) and decision.reservation is not None:
                self.admitted += 1
                self._running.append(decision.reservation)
            if len(self._running) > RUNNING:
                begun = moment()
                step(lab.service.settle(Report(reservation=self._running.popleft(), status=200), EDGE))
                self._took(begun)
            if at % BETWEEN_UPKEEPS == 0:
                lab.clock.advance(TICK_S)
                begun = moment()
                lab.store.keep_up()
                self._took(begun)
                lab.store.wait_for_writer()
        return total

    def _took(self, begun: tuple[float, float]) -> float:
        """The CPU since then. A pause is what is one by both clocks."""
        cpu, wall = moment()
        took = cpu - begun[0]
        self.longest = max(self.longest, min(took, wall - begun[1]))
        return took


def measure(count: int, decisions: int = DECISIONS) -> Figures:
    lab, other = Lab(CONFIG), Lab(CONFIG)
    lab.clock.now = other.clock.now = time.time_ns() // 1_000_000
    keys = [key(at) for at in range(count)]
    before = resident_bytes()
    for at in range(count):
        lab.store.registry.add_key(record(at))
    registered = resident_bytes() - before
    for at in range(FEW):
        other.store.registry.add_key(record(at))
    Collector().spare()  # as the service does at its start
    chance = random.Random(1)
    course, beside = _Course(lab), _Course(other)
    decide = course.decide
    gc.callbacks.append(course.collector)
    few = [key(at) for at in range(FEW)]
    beside.decide(few)
    decide(few[:count])
    gc.collect()
    before = resident_bytes()
    growing = 0.0
    for start in range(0, count, BETWEEN):
        growing += decide(keys[start : start + BETWEEN])
    grown = resident_bytes() - before
    of_few = [chance.choices(few, k=decisions // BATCHES) for _ in range(BATCHES)]
    evenly = [chance.choices(keys, k=decisions // BATCHES) for _ in range(BATCHES)]
    weights = list(accumulate((at + 1) ** -_EXPONENT for at in range(count)))
    skewed = [chance.choices(keys, cum_weights=weights, k=decisions // BATCHES) for _ in range(BATCHES)]
    del weights
    took: list[tuple[float, float, float]] = []
    for batches in zip(of_few, evenly, skewed, strict=True):
        took.append((beside.decide(batches[0]), decide(batches[1]), decide(batches[2])))
    few_us, uniform_us, zipf_us = [
        sorted(each)[BATCHES // 2] / (decisions // BATCHES) * 1e6 for each in zip(*took, strict=True)
    ]
    gc.callbacks.remove(course.collector)
    counters = bytes_of_counters(lab)
    return Figures(
        keys=count,
        few_us=few_us,
        uniform_us=uniform_us,
        zipf_us=zipf_us,
        growing_us=growing / count * 1e6,
        pause_ms=course.longest * 1000,
        bytes_per_key=max(0, registered) / count,
        bytes_per_caller=max(0, grown) / count,
        bytes_per_counter=counters,
        admitted=course.admitted + beside.admitted,
        expected=FEW + min(FEW, count) + count + 3 * decisions,
    )


if __name__ == "__main__":
    print(msgspec.json.encode(measure(int(sys.argv[1]))).decode())
