"""What roles, a condition and four limits add to a decision: in process, microseconds.

All are measured in turns, so that a noisy machine bears on each alike: the
difference of the best of each, and the median of the rounds' differences.
"""

import gc
import operator
import random
import time
from statistics import median

from authz.decision import Allow
from authz.report import Report
from tests.support.lab import EDGE, Lab, step

RULES = """
      - {models: allowed}
      - {roles: [senior, staff]}
      - {when: "'staff' in subject.roles && request.path.startsWith('/r') && in_network(ip, '10.0.0.0/8')"}"""
LIMITS = "limits: [key-minute, user-day, team-week, model-hour]"
ROUTE = """
  - name: {name}
    match: {{methods: [POST], paths: [/{name}]}}
    authenticate: {{any_of: [keys]}}
    authorize: {rules}
    {limits}"""
KINDS = {
    "nothing": ("[{models: allowed}]", ""),
    "rules": (RULES, ""),
    "limited": ("[{models: allowed}]", LIMITS),
    "rules-limited": (RULES, LIMITS),
}
CONFIG = f"""
store: memory://
gateways: {{edge: {{kind: envoy, token: "edge-token-of-the-bench"}}}}
authenticators: {{keys: {{type: api_key}}}}
models: {{llama3: {{context: 8192, max_output: 2048}}}}
limits:
  key-minute: {{unit: requests, quota: 1G, window: 1m, partition_by: [key]}}
  user-day: {{unit: requests, quota: 1G, window: day, partition_by: [user]}}
  team-week: {{unit: requests, quota: 1G, window: week, partition_by: [team]}}
  model-hour: {{unit: requests, quota: 1G, window: 1h, partition_by: [model], algorithm: fixed}}
routes:{"".join(ROUTE.format(name=name, rules=rules, limits=limits) for name, (rules, limits) in KINDS.items())}
"""
ROUNDS = 3000


def measure() -> dict[str, list[int]]:
    """Nanoseconds of every decision on each kind of route, in the order of the rounds."""
    lab = Lab(CONFIG)
    key = lab.key("alice", team="nlp", roles=frozenset({"staff"}))
    taken: dict[str, list[int]] = {name: [] for name in KINDS}
    order = list(KINDS)
    chance = random.Random(1)
    gc.collect()
    gc.freeze()  # as the service does at its start
    gc.disable()
    for _ in range(ROUNDS):
        chance.shuffle(order)  # what was done just before leaves its mark on the processor's caches
        for name in order:
            request = lab.request(target=f"/{name}", key=key, ip="10.1.2.3")
            begun = time.perf_counter_ns()
            decision = step(lab.decider.decide(request))
            taken[name].append(time.perf_counter_ns() - begun)
            assert isinstance(decision, Allow), decision
            report = Report(reservation=str(decision.reservation), status=200)
            step(lab.service.settle(report, EDGE))  # in life requests end, too
    gc.enable()
    gc.unfreeze()
    return taken


def main() -> None:
    taken = measure()
    bare = taken.pop("nothing")
    print(f"{'':<28} {'best':>9} {'median':>9}")
    print(f"{'a decision without them':<28} {min(bare) / 1000:6.1f} µs {median(bare) / 1000:6.1f} µs")
    for name, all_taken in taken.items():
        best = min(all_taken) - min(bare)
        added = median(map(operator.sub, all_taken, bare))  # of one round: a busy moment bears on both
        print(f"{'+ ' + name:<28} {best / 1000:6.1f} µs {added / 1000:6.1f} µs")


if __name__ == "__main__":
    main()
