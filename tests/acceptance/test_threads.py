"""Many clients at once on one key of 60 requests a minute: never over, never less, and a refusal costs nothing."""

import http.client
import re
import threading
import time
from dataclasses import dataclass, field

from tests.acceptance.lab import Way, eventually
from tests.support.raw_http import exchange, request_bytes

QUOTA = 60  # a minute: one comes back each second
EACH = 3  # requests per thread
CLIENTS = {"envoy": 200, "traefik": 40, "nginx": 40, "caddy": 40}


@dataclass
class Crowd:
    """Threads that begin together, each with a connection of its own."""

    way: Way
    key: str
    statuses: list[int] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)  # moments of the monotonic clock

    def run(self, threads: int) -> tuple[float, float]:
        """The moments between which it all was, by the monotonic clock."""
        self._together = threading.Barrier(threads + 1)
        running = [threading.Thread(target=self._one, daemon=True) for _ in range(threads)]
        for thread in running:
            thread.start()
        begun = time.monotonic()
        self._together.wait(30)
        for thread in running:
            thread.join(60)
        return begun, time.monotonic()

    def _one(self) -> None:
        connection = http.client.HTTPSConnection(
            "localhost", self.way.port, context=self.way.lab.tls, timeout=30
        )
        self._together.wait(30)
        try:
            for _ in range(EACH):
                connection.request("GET", "/echo/limited", headers={"Authorization": f"Bearer {self.key}"})
                response = connection.getresponse()
                response.read()
                self.answered.append(time.monotonic())
                self.statuses.append(response.status)
        finally:
            connection.close()


def test_sixty_and_what_comes_back_meanwhile(way: Way) -> None:
    minted, before = way.lab.key(), way.reasons()
    service, crowd = way.lab.service, Crowd(way, minted.key)
    begun, ended = crowd.run(CLIENTS[way.name])
    took = ended - begun
    let_in, refused = crowd.statuses.count(200), crowd.statuses.count(429)
    undecided = crowd.statuses.count(503)  # the machine is busy: authz did not answer its gateway in time
    assert len(crowd.statuses) == let_in + refused + undecided == CLIENTS[way.name] * EACH
    assert len(way.lab.model.received()) == let_in
    told = way.reasons() - before
    admitted = told["allowed"]
    assert set(told) == {"allowed", "rate_limited"}
    assert let_in <= admitted <= let_in + undecided
    assert refused <= told["rate_limited"] <= refused + undecided
    assert QUOTA <= admitted <= QUOTA + took, (admitted, took)

    # The level: what was admitted less what has come back since the first was. Any refusal charged would add a
    # second each. When the first was admitted, and when the level was read, is known as between two moments.
    first_by = min(crowd.answered)

    def fits(free: float, count: int, earliest: float, latest: float) -> bool:
        return count - (latest - begun) - 1 <= free <= count - (earliest - first_by) + 1

    def level_is_right() -> bool:
        earliest = time.monotonic()
        rows = service.run("limits", "show", "key-rpm")["levels"]
        mine = [float(row["reset_after"]) for row in rows if row["for"] == {"key": minted.id}]
        return bool(mine) and fits(mine[0], admitted, earliest, time.monotonic())

    eventually(level_is_right)

    # And it admits again as soon as one has come back; its rate header tells the same.
    data = request_bytes("GET", "/echo/limited", [("Authorization", f"Bearer {minted.key}")])
    last, sent = None, 0.0
    while last is None or last.status != 200:
        sent = time.monotonic()
        assert last is None or sent - ended < 30, last
        last = exchange(way.port, data, tls=way.lab.tls)
    level = re.fullmatch(r'"key-rpm";r=(\d+);t=(\d+);pk=.*', last.header("ratelimit") or "")
    assert level is not None, last.headers
    assert fits(int(level[2]), admitted + 1, sent, time.monotonic())
    assert QUOTA - 2 <= int(level[1]) + int(level[2]) <= QUOTA + 1

    def all_are_kept() -> bool:
        denials = service.run("decisions", "list", "--user", "alice", "--status", "429", "--since", "1h")
        return sum(row["count"] for row in denials if row["key"] == minted.id) >= refused

    eventually(all_are_kept)
