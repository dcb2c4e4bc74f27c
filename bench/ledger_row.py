"""What it costs to write a request down: microseconds of CPU, the median of several rounds.

On disk: what deciding and settling cost more than in memory is the journal's part; `written` is the
transaction of the writer's thread, in batches as at some hundred and at some thousand requests a second.
A request ends when 5000 others have begun, as those of models do.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TypeVar
from uuid import uuid4

from authz.decision import Allow
from authz.report import Report
from authz.request import Request
from authz.store.embedded import EmbeddedStore
from authz.store.memory import open_memory
from authz.store.sqlite.service import open_sqlite
from authz.usage import Usage
from tests.support.lab import EDGE, FakeClock, Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: edge-token-of-the-bench}}
authenticators: {keys: {type: api_key}}
models: {llama3: {context: 8192, max_output: 2048, price: {input: 0.1, output: 0.4}}}
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
    limits: [key-minute, user-day]
limits:
  key-minute: {unit: requests, quota: 1G, window: 1m, partition_by: [key]}
  user-day: {unit: tokens, quota: 1000G, window: day, partition_by: [user]}
"""
T = TypeVar("T")
USERS = 20
RUNNING = 5_000  # requests at any time
BEFORE = 25_000  # of which all but these are in the ledger already
ROUNDS = 12


class Bench:
    """Some users' requests."""

    def __init__(self, store: EmbeddedStore, clock: FakeClock) -> None:
        self.store = store
        self.lab = Lab(CONFIG, clock=clock, store=store)
        self.running: list[Report] = []  # what requests are about to tell
        self.keys = [self.lab.key(f"user{number}", team="nlp") for number in range(USERS)]

    def requests(self, count: int) -> list[Request]:
        ids = (str(uuid4()) for _ in range(count))
        make = self.lab.request
        return [make(key=self.keys[at % USERS], request_id=id, lease_ms=600_000) for at, id in enumerate(ids)]

    def decide(self, requests: list[Request]) -> list[Report]:
        reports = []
        for request in requests:
            decision = step(self.lab.decider.decide(request))
            assert isinstance(decision, Allow)
            reports.append(Report(reservation=str(decision.reservation), usage=Usage(20, 9), status=200))
        return reports

    def settle(self, reports: list[Report]) -> None:
        for report in reports:
            step(self.lab.service.settle(report, EDGE))

    def write(self) -> None:
        self.store.keep_up()
        self.store.wait_for_writer()

    def round(self, count: int) -> tuple[float, float, float]:
        """Microseconds of each request to decide it, to settle it and to write it down."""
        requests = self.requests(count)
        self.lab.clock.advance(0.2)
        reports, deciding = timed(lambda: self.decide(requests), count)
        self.running += reports
        ended, self.running = self.running[:-RUNNING], self.running[-RUNNING:]
        _, settling = timed(lambda: self.settle(ended), count)
        _, writing = timed(self.write, count)
        return deciding, settling, writing


def timed(work: Callable[[], T], count: int) -> tuple[T, float]:
    begun = time.process_time()  # of all threads
    result = work()
    return result, (time.process_time() - begun) / count * 1e6


def main() -> None:
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as scratch:
        stores = {
            "in memory": open_memory(clock),
            "on disk": open_sqlite(Path(scratch) / "authz.db", clock),
        }
        benches = {name: Bench(store, clock) for name, store in stores.items()}
        for bench in benches.values():
            for _ in range(BEFORE // 2000):
                bench.round(2000)
        print(f"{'':<32} {'decide':>8} {'settle':>8} {'written':>8}")
        for count in (40, 600):
            for name, bench in benches.items():
                bench.round(count)
                rounds = [bench.round(count) for _ in range(ROUNDS * (1 if count > 100 else 5))]
                figures = " ".join(f"{median(each):5.1f} µs" for each in zip(*rounds, strict=True))
                print(f"{f'{name}, {count} at a time':<32} {figures}")
        for store in stores.values():
            step(store.close())


if __name__ == "__main__":
    main()
