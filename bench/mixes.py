"""What different requests cost: CPU of the server for each, over gRPC, requests that differ where life's do."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice

from envoy.service.auth.v3 import external_auth_pb2

from authz.authenticate.key_format import mint
from bench.figures import Sample
from bench.growth_run import key as text_of
from bench.growth_run import record
from bench.load import framed
from bench.machine import LOAD_CORE, cpu_seconds, pin
from bench.ours import CHAT, GATEWAY, Credentials, Ours, admitted, message, token
from bench.replay import Replay
from bench.rounds import EXTRA, Contestant, interleave
from bench.section import RATES, Context, Section, kept, rated, with_admitted
from tests.support.redis import RedisServer

CALLS = 4_000
MANY = 100_000  # keys
BESIDE = "one limit"
REPORTS = 100  # in one POST

Draw = Callable[[], Sequence[bytes]]
"""The requests of the next run."""


class Mix:
    """One kind of requests to one service, with what a model says of them: how many are admitted."""

    def __init__(self, service: Ours, draw: Draw, share: float, others: dict[str, int] | None = None) -> None:
        self._service = service
        self._draw = draw
        self._expected = round(CALLS * share)
        self._others = others or {}
        self.admitted = ""
        self.settled = False

    def run(self) -> Sample:
        requests = self._draw()
        with Replay(self._service.connect(32), 4) as replay:
            apart = {name: cpu_seconds(pid) for name, pid in self._others.items()}
            before = cpu_seconds(self._service.pid)
            played = replay.saturate(requests, CALLS)
            if self.settled:
                _settle(self._service, played.answers)
            spent = cpu_seconds(self._service.pid) - before
        found = sum(map(admitted, played.answers))
        wrong = "" if found == self._expected else " WRONG"
        if wrong or not self.admitted.endswith("WRONG"):
            self.admitted = f"{found} of {self._expected}{wrong}"
        told = {name: (cpu_seconds(pid) - apart[name]) / CALLS * 1e6 for name, pid in self._others.items()}
        return Sample(CALLS / played.seconds, spent / CALLS * 1e6, told)


def _settle(service: Ours, answers: Sequence[bytes]) -> None:
    """Tell what each response used, as a gateway does, many at a time."""
    made = []
    for each in answers:
        metadata = external_auth_pb2.CheckResponse.FromString(each).dynamic_metadata
        made.append(
            {
                "reservation": metadata["reservation"],
                "usage": {"prompt_tokens": 120, "completion_tokens": 40, "total_tokens": 160},
                "status": 200,
                "response_bytes": 2000,
            }
        )
    for start in range(0, len(made), REPORTS):
        request = urllib.request.Request(
            f"http://127.0.0.1:{service.http}/v1/usage",
            data=json.dumps(made[start : start + REPORTS]).encode(),
            headers={"content-type": "application/json", "x-authz-gateway-token": GATEWAY},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            told = json.loads(response.read())
            if response.status != 200 or "error" in str(told):
                raise RuntimeError(f"a settlement failed: {told}")


def _always(*requests: bytes) -> Draw:
    framed_once = [framed(each) for each in requests]
    return lambda: framed_once


def _next(source: Iterator[bytes]) -> Draw:
    return lambda: list(islice(source, CALLS))


def run(context: Context) -> Section:
    credentials = Credentials()
    key, spent = credentials.key(), credentials.key("bob", "requests=1/day")
    runs = context.rounds + EXTRA + 3  # a warm one before, a null one in each round
    unknown = (framed(message(mint().key)) for _ in cycle([0]))
    tokens = (
        framed(message(token(f"user{at % (runs * CALLS)}"), "/three")) for at, _ in enumerate(cycle([0]))
    )
    crowd = Credentials()
    crowd.records = [record(at) for at in range(MANY)]
    each = (framed(message(text_of(at), "/one")) for at in cycle(range(MANY)))
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(context.scratch))
        pin(redis.process.pid, LOAD_CORE)
        memory = stack.enter_context(Ours(context.scratch / "memory", credentials, "memory://"))
        crowded = stack.enter_context(Ours(context.scratch / "crowd", crowd, "memory://"))
        sqlite = stack.enter_context(Ours(context.scratch / "sqlite", credentials))
        on_redis = stack.enter_context(
            Ours(context.scratch / "redis", credentials, redis.url + "?budget=1000ms")
        )
        with Replay(memory.connect(1), 1) as replay:  # its only request of the day
            replay.saturate([framed(message(spent.key, "/three"))], 1)
        by_key = partial(message, key.key)
        mixes = {
            BESIDE: Mix(memory, _always(by_key("/one")), 1),
            f"one limit, {MANY:,} keys in turn": Mix(crowded, _next(each), 1),
            "three limits": Mix(memory, _always(by_key("/three")), 1),
            "eight limits": Mix(memory, _always(by_key("/eight")), 1),
            "three limits, half denied": Mix(
                memory, _always(by_key("/three"), message(spent.key, "/three")), 0.5
            ),
            "unknown keys, each another": Mix(memory, _next(unknown), 0),
            "JWT, each another (cold)": Mix(memory, _next(tokens), 1),
            "JWT, one (warm)": Mix(memory, _always(message(token("carol"), "/three")), 1),
            "tokens reserved": Mix(memory, _always(by_key(CHAT)), 1),
            "tokens reserved and settled": Mix(memory, _always(by_key(CHAT)), 1),
            "tokens reserved, SQLite": Mix(sqlite, _always(by_key(CHAT)), 1),
            "tokens reserved, Redis": Mix(on_redis, _always(by_key(CHAT)), 1, {"redis": redis.process.pid}),
        }
        mixes["tokens reserved and settled"].settled = True
        contestants = [Contestant(name, mix.run, null=name == BESIDE) for name, mix in mixes.items()]
        outcome = interleave(contestants, context.rounds, context.say)
    return Section(
        name="mixes",
        title="What is asked",
        how=f"Over gRPC, {CALLS:,} requests a run, 128 at a time, from the bench's own client. In memory unless said otherwise.",
        columns={**RATES, "ratio": f"CPU / {BESIDE}", "redis": "Redis CPU µs"},
        rows=with_admitted(
            rated(outcome, dict.fromkeys(mixes, BESIDE), ["redis"]),
            {name: mix.admitted for name, mix in mixes.items()},
        ),
        notes=outcome.dropped,
        rounds=kept(outcome),
        drawn="cpu_us",
    )
