"""A demand far above its limit, on a clock that jumps from event to event.

Clients that never pause ask for 4096 tokens at most and use 100 on average (lognormal,
sigma 1: one of a hundred uses more than 621); a token takes 20 ms after 300 ms, the usage is
known 0.5 s after the end, who is refused comes back after 0.5 to 1.5 s. All share one
limit of 10,000 tokens a minute.
"""

import heapq
import math
import random
from dataclasses import dataclass, field

from authz.decision import Allow
from authz.ledger.settle import Settler
from authz.report import Report
from authz.usage import Usage
from tests.support.lab import EDGE, FakeClock, Lab, step

QUOTA, WINDOW_MS, INPUT, ASKED = 10_000, 60_000, 20, 4096
BEGIN = 1_789_999_980_000  # a whole minute
BODY = b'{"model":"llama3","max_tokens":4096,"messages":[{"role":"user","content":"hi"}]}'
CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {context: 8192, max_output: 4096}}
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    admission: ADMISSION
    limits: [minute]
limits:
  minute: {unit: tokens, quota: 10k, window: 1m, algorithm: fixed}
"""


@dataclass
class Outcome:
    """What came of it, from the end of the warm-up on."""

    minutes: int
    used: dict[int, int] = field(default_factory=dict)  # tokens by the minute in which they were admitted
    admitted: int = 0
    cut: int = 0
    limits: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the quota that was used."""
        return sum(self.used.values()) / (self.minutes * QUOTA)

    @property
    def share_cut(self) -> float:
        return self.cut / max(1, self.admitted)

    @property
    def over(self) -> int:
        """Minutes in which more than the quota was used."""
        return sum(used > QUOTA for used in self.used.values())


class Demand:
    """One run of it."""

    def __init__(self, admission: str, seed: int, clients: int = 200) -> None:
        self.clock = FakeClock(BEGIN)
        self.lab = Lab(CONFIG.replace("ADMISSION", admission), clock=self.clock)
        self.settler = Settler(self.lab.store.counters, self.clock, learn=self.lab.decider.learned.observe)
        self._key = self.lab.key()
        self._rng = random.Random(seed)
        self._events: list[tuple[int, int, str, tuple[object, ...]]] = []
        self._serial = 0
        self._refused_at = (-1, -1)  # (window, settlements): nothing has changed since somebody was refused
        self._settlements = 0
        for _ in range(clients):
            self._later(self._rng.random() * 2000, "ask", self._wanted())

    def _wanted(self) -> int:
        return max(1, round(math.exp(self._rng.gauss(math.log(100) - 0.5, 1))))

    def _later(self, milliseconds: float, what: str, *about: object) -> None:
        self._serial += 1
        heapq.heappush(self._events, (self.clock.now + round(milliseconds), self._serial, what, about))

    def run(self, minutes: int, warm: int) -> Outcome:
        """The outcome of so many minutes, after so many that do not count."""
        outcome = Outcome(minutes)
        first = BEGIN // WINDOW_MS + warm
        while self._events[0][0] < BEGIN + (warm + minutes) * WINDOW_MS:
            self.clock.now, _, what, about = heapq.heappop(self._events)
            if what == "ask":
                self._ask(outcome, first, *about)  # type: ignore[arg-type]
            elif what == "end":
                self._later(500, "settle", *about)
                self._later(0, "ask", self._wanted())
            else:
                self._settle(*about)  # type: ignore[arg-type]
        return outcome

    def _ask(self, outcome: Outcome, first: int, wanted: int) -> None:
        window = self.clock.now // WINDOW_MS
        if self._refused_at == (window, self._settlements):  # all ask the same: refused again
            self._later(self._rng.uniform(500, 1500), "ask", wanted)
            return
        decision = self.lab.decide(self.lab.request(key=self._key, body=BODY, can_edit=True))
        if not isinstance(decision, Allow):
            self._refused_at = (window, self._settlements)
            self._later(self._rng.uniform(500, 1500), "ask", wanted)
            return
        limit = int(dict(decision.client).get("x-authz-max-tokens", ASKED))
        written = min(wanted, limit)
        if window >= first:
            outcome.admitted += 1
            outcome.cut += wanted > limit
            outcome.limits.append(limit)
            outcome.used[window] = outcome.used.get(window, 0) + INPUT + written
        self._later(300 + 20 * written, "end", decision.reservation, written)

    def _settle(self, reservation: str, written: int) -> None:
        self._settlements += 1
        report = Report(reservation=reservation, usage=Usage(INPUT, written), status=200)
        step(self.settler.settle(report, EDGE))
