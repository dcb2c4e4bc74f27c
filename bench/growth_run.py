"""One service in this process with so many keys, each with a counter: what a decision costs, and the longest pause.

`python -m bench.growth_run KEYS` prints JSON. A process of its own for each size, since memory that was used once
is not given back. All keys ask once, which makes their counters and shows every growth of a table; then
`DECISIONS` requests of keys drawn evenly, and as many by Zipf's law.
"""

import gc
import random
import sys
import time
from hashlib import sha256
from itertools import accumulate

import msgspec

from authz.decision import Allow
from authz.store.records import Key
from bench.machine import resident_bytes
from tests.support.lab import Lab, step

DECISIONS = 20_000
BATCHES = 10
BETWEEN = 10_000  # new counters between two upkeeps of the store
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
    uniform_us: float  # CPU for each decision
    zipf_us: float
    growing_us: float  # the same while counters are made
    pause_ms: float  # the longest decision, collection or upkeep, in thread CPU time
    bytes_per_key: float  # of its record
    bytes_per_counter: float
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


def measure(count: int, decisions: int = DECISIONS) -> Figures:
    lab = Lab(CONFIG)
    lab.clock.now = time.time_ns() // 1_000_000
    keys = [key(at) for at in range(count)]
    before = resident_bytes()
    for at in range(count):
        lab.store.registry.add_key(record(at))
    registered = resident_bytes() - before
    gc.collect()
    gc.freeze()  # as the service does at its start
    chance = random.Random(1)
    longest = 0.0
    admitted = 0
    clock = time.thread_time
    collecting = 0.0

    def collector(phase: str, _: object) -> None:
        """Told of each garbage collection, also of those between two decisions."""
        nonlocal longest, collecting
        if phase == "start":
            collecting = clock()
        else:
            longest = max(longest, clock() - collecting)

    def decide(drawn: list[str]) -> float:
        """CPU seconds of the decisions, each timed by itself; then what the store does every now and then."""
        nonlocal admitted, longest
        total = 0.0
        decider, request = lab.decider, lab.request
        for each in drawn:
            asked = request(target="/one", key=each)
            begun = clock()
            decision = step(decider.decide(asked))
            took = clock() - begun
            total += took
            if took > longest:
                longest = took
            admitted += isinstance(decision, Allow)
        begun = clock()
        lab.store.keep_up()
        longest = max(longest, clock() - begun)
        return total

    decide(keys[:100])
    gc.collect()
    before = resident_bytes()
    gc.callbacks.append(collector)
    growing = 0.0
    for start in range(0, count, BETWEEN):
        growing += decide(keys[start : start + BETWEEN])
    grown = resident_bytes() - before
    evenly = [chance.choices(keys, k=decisions // BATCHES) for _ in range(BATCHES)]
    weights = list(accumulate((at + 1) ** -_EXPONENT for at in range(count)))
    skewed = [chance.choices(keys, cum_weights=weights, k=decisions // BATCHES) for _ in range(BATCHES)]
    del weights
    uniform, zipf = [], []
    for one, other in zip(evenly, skewed, strict=True):
        uniform.append(decide(one))
        zipf.append(decide(other))
    gc.callbacks.remove(collector)
    return Figures(
        keys=count,
        uniform_us=sorted(uniform)[BATCHES // 2] / (decisions // BATCHES) * 1e6,
        zipf_us=sorted(zipf)[BATCHES // 2] / (decisions // BATCHES) * 1e6,
        growing_us=growing / count * 1e6,
        pause_ms=longest * 1000,
        bytes_per_key=max(0, registered) / count,
        bytes_per_counter=max(0, grown) / count,
        admitted=admitted,
        expected=min(100, count) + count + 2 * decisions,
    )


if __name__ == "__main__":
    print(msgspec.json.encode(measure(int(sys.argv[1]))).decode())
