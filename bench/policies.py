"""What roles, a condition and four limits add to a decision: in process, microseconds, the best of many.

All are measured in turns, so that a noisy machine bears on each alike.
"""

import gc
import time

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


def measure() -> dict[str, float]:
    """Microseconds of a decision on each kind of route."""
    lab = Lab(CONFIG)
    key = lab.key("alice", team="nlp", roles=frozenset({"staff"}))
    best = dict.fromkeys(KINDS, 1 << 62)
    gc.collect()
    gc.freeze()  # as the service does at its start
    gc.disable()
    for _ in range(ROUNDS):
        for name in KINDS:
            request = lab.request(target=f"/{name}", key=key, ip="10.1.2.3")
            begun = time.perf_counter_ns()
            decision = step(lab.decider.decide(request))
            best[name] = min(best[name], time.perf_counter_ns() - begun)
            assert isinstance(decision, Allow), decision
            report = Report(reservation=str(decision.reservation), status=200)
            step(lab.service.settle(report, EDGE))  # in life requests end, too
    gc.enable()
    gc.unfreeze()
    return {name: nanoseconds / 1000 for name, nanoseconds in best.items()}


def main() -> None:
    best = measure()
    bare = best.pop("nothing")
    print(f"{'a decision without them':<28} {bare:6.1f} µs")
    for name, microseconds in best.items():
        print(f"{'+ ' + name:<28} {microseconds - bare:6.1f} µs")


if __name__ == "__main__":
    main()
