"""Envoy's rate limit service: ours beside envoyproxy/ratelimit, both from the same file, on the same Redis.

The one comparison in which both do exactly the same job. envoyproxy/ratelimit counts in Redis or Memcached
only; ours in memory stands beside it for what the network costs.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import grpc
from envoy.service.ratelimit.v3 import rls_pb2

from bench.connections import Http2
from bench.figures import Sample, Spread
from bench.load import GRPC, framed, h2load
from bench.machine import LOAD_CORE, SERVER_CORE, cpu_seconds, pin
from bench.oracle import ASKED, QUOTA, judge
from bench.ours import GATEWAY, Credentials, Ours
from bench.peers import Peer, program
from bench.replay import Replay
from bench.rounds import Contestant, interleave
from bench.section import RATES, Claim, Context, Section, kept, rated, with_admitted
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers
from tests.support.redis import RedisServer

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
CALLS = 20_000
MANY = 10_000
FILE = f"""domain: bench
descriptors:
  - key: user
    rate_limit: {{unit: day, requests_per_unit: 4000000000}}
  - key: limited
    rate_limit: {{unit: day, requests_per_unit: {QUOTA}}}
"""
OURS, MEMORY, THEIRS, PIPED = (
    "authz, Redis", "authz, memory", "envoyproxy/ratelimit, Redis", "envoyproxy/ratelimit, Redis, pipelining",
)  # fmt: skip
PIPELINING = {"REDIS_PIPELINE_WINDOW": "150us", "REDIS_PIPELINE_LIMIT": "8"}
HEADERS = {**GRPC, "x-authz-gateway-token": f"{GATEWAY}-grpc"}


def question(key: str, value: str) -> bytes:
    """One descriptor with one entry."""
    request = rls_pb2.RateLimitRequest(domain="bench")
    request.descriptors.add().entries.add(key=key, value=value)
    return bytes(request.SerializeToString())


def within(answer: bytes) -> bool:
    """Whether a RateLimitResponse says OK."""
    ok = rls_pb2.RateLimitResponse.OK
    return bool(answer) and rls_pb2.RateLimitResponse.FromString(answer).overall_code == ok


def ask(port: int, asked: bytes) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        told: bytes = channel.unary_unary(METHOD)(
            asked, metadata=[("x-authz-gateway-token", f"{GATEWAY}-grpc")], timeout=10
        )
    return told


def theirs(
    stack: ExitStack, context: Context, files: Path, redis: RedisServer, name: str, more: dict[str, str]
) -> tuple[int, int]:
    """envoyproxy/ratelimit on one core, without statistics and logs: its port and process id."""
    ports = free_port(), free_port(), free_port()
    env = {
        "HOST": "127.0.0.1", "GRPC_HOST": "127.0.0.1", "DEBUG_HOST": "127.0.0.1", "PORT": str(ports[1]),
        "GRPC_PORT": str(ports[0]), "DEBUG_PORT": str(ports[2]), "USE_STATSD": "false", "DISABLE_STATS": "true",
        "LOG_LEVEL": "error", "REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": redis.address, "RUNTIME_ROOT": str(files),
        "RUNTIME_WATCH_ROOT": "false", "CACHE_KEY_PREFIX": name, "GOMAXPROCS": "1", **more,
    }  # fmt: skip
    process = Process(
        [str(program(context.peers, Peer.RATELIMIT))], log=context.scratch / f"{name}.log", env=env
    )
    stack.callback(process.stop)
    process.wait_until(lambda: port_answers(ports[0]) and _answers(ports[0]))
    pin(process.pid, SERVER_CORE)
    return ports[0], process.pid


def _answers(port: int) -> bool:
    try:
        return within(ask(port, question("user", "warm")))
    except grpc.RpcError:
        return False


def spread_over(port: int, pid: int, redis: int) -> Callable[[], Sample]:
    """Each call another key, from the bench's own client: nothing that calls of one key share helps here."""
    requests = [framed(question("user", f"user-{at}")) for at in range(MANY)]

    def run() -> Sample:
        with Replay(partial(Http2, port, METHOD, HEADERS, 32), 4) as replay:
            before, apart = cpu_seconds(pid), cpu_seconds(redis)
            played = replay.saturate(requests, MANY)
            spent, told = cpu_seconds(pid) - before, cpu_seconds(redis) - apart
        if not all(map(within, played.answers)):
            raise RuntimeError("a call was not answered OK")
        return Sample(MANY / played.seconds, spent / MANY * 1e6, {"redis": told / MANY * 1e6})

    return run


def run(context: Context) -> Section:
    files = context.scratch / "ratelimit"
    (files / "config").mkdir(parents=True)
    (files / "config" / "bench.yaml").write_text(FILE)
    options = ["--ratelimit-config", str(files / "config")]
    notes = []
    asked = question("user", "alice-0001")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(context.scratch))
        pin(redis.process.pid, LOAD_CORE)
        nobody = Credentials()
        on_redis = stack.enter_context(
            Ours(context.scratch / "limits-redis", nobody, redis.url + "?budget=1000ms", options)
        )
        in_memory = stack.enter_context(Ours(context.scratch / "limits-memory", nobody, "memory://", options))
        ports = {OURS: (on_redis.grpc, on_redis.pid), MEMORY: (in_memory.grpc, in_memory.pid)}
        if program(context.peers, Peer.RATELIMIT).exists():
            ports[THEIRS] = theirs(stack, context, files, redis, "a", {})
            ports[PIPED] = theirs(stack, context, files, redis, "b", PIPELINING)
        else:
            notes.append("envoyproxy/ratelimit is not installed: `make bench-peers`")
        for name, (port, _) in ports.items():
            if not within(ask(port, asked)):
                raise RuntimeError(f"{name} does not answer OK")
        contestants = [
            Contestant(
                name,
                h2load(
                    f"http://127.0.0.1:{port}{METHOD}", framed(asked), HEADERS, context.scratch / "limit.bin", pid,
                    calls=CALLS, others={} if name == MEMORY else {"redis": redis.process.pid},
                ),
                null=name == MEMORY,  # as the one that runs twice: it touches nothing but itself
            )
            for name, (port, pid) in ports.items()
        ]  # fmt: skip
        contestants += [
            Contestant(f"{name}, {MANY:,} keys", spread_over(port, pid, redis.process.pid))
            for name, (port, pid) in ports.items()
            if name != MEMORY
        ]
        outcome = interleave(contestants, context.rounds, context.say)
        verdicts = {}
        for name, (port, _) in ports.items():
            requests = [framed(question("limited", f"{name}-{at}")) for at in range(4)]
            with Replay(partial(Http2, port, METHOD, HEADERS, 16), 4) as replay:
                verdicts[name] = str(judge(replay, requests, QUOTA, ASKED, within))
    claims = []
    if THEIRS in ports:
        for load, keys in (("one hot key", ""), (f"{MANY:,} keys in turn", f", {MANY:,} keys")):
            per_core = Spread.of(
                [
                    min(each[THEIRS + keys].cpu_us, each[PIPED + keys].cpu_us) / each[OURS + keys].cpu_us
                    for each in outcome.rounds
                ]
            )
            claims.append(
                Claim(
                    f"ShouldRateLimit per core at least that of envoyproxy/ratelimit (the better of both ways), Redis on both sides, {load}",
                    per_core.median >= 1.0,
                    f"{per_core.median:.2f} times ({per_core.least:.2f}-{per_core.most:.2f})",
                )
            )
    return Section(
        name="ratelimit",
        title="ShouldRateLimit (Envoy's rate limit service)",
        how="The same YAML file, one descriptor; one hot key by `h2load -c4 -m32`, and a key for each call by the bench's own client; each server on one core (`GOMAXPROCS=1`), without logs "
        "and statistics, Redis on the core of the load. envoyproxy/ratelimit has no store in memory.",
        columns={**RATES, "ratio": f"CPU / {MEMORY}", "redis": "Redis CPU µs"},
        rows=with_admitted(
            rated(outcome, dict.fromkeys([each.name for each in contestants], MEMORY), ["redis"]), verdicts
        ),
        claims=claims,
        notes=notes + outcome.dropped,
        rounds=kept(outcome),
        drawn="cpu_us",
    )
