"""How long an answer takes at a part of what a server can do: 10, 50 and 80 % of its own saturated rate."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from bench.connections import Answered, Connection, Http1, Http2
from bench.figures import Sample, Spread, latencies, spread
from bench.lanes import null_server
from bench.load import GRPC, framed
from bench.machine import cpu_seconds
from bench.ours import GATEWAY, Credentials, Ours, answer, http_request, message
from bench.replay import Replay
from bench.rounds import Contestant, Outcome, interleave
from bench.section import Context, Row, Section, kept
from bench.servers import CHECK

SHARES = (10, 50, 80)
SECONDS = 1.5
_SATURATED = 6_000  # calls
FIGURES = {"p50": "p50 µs", "p99": "p99 µs", "p99.9": "p99.9 µs", "per_second": "requests/s"}

Connect = Callable[[Answered], Connection]


class Target:
    """One server, and how fast it can be."""

    def __init__(self, pid: int, connect: Connect, connections: int, request: bytes) -> None:
        self._pid = pid
        self._connect = connect
        self._connections = connections
        self._requests = [request]
        self.most = 0.0

    def find_most(self) -> float:
        """Requests per second that it and the client reach together, the median of three."""
        rates = []
        for _ in range(3):
            with Replay(self._connect, self._connections) as replay:
                rates.append(_SATURATED / replay.saturate(self._requests, _SATURATED).seconds)
        self.most = sorted(rates)[1]
        return self.most

    def at(self, share: int) -> Sample:
        rate = self.most * share / 100
        count = max(200, int(rate * SECONDS))
        with Replay(self._connect, self._connections) as replay:
            before = cpu_seconds(self._pid)
            played = replay.pace(self._requests, count, rate)
            spent = cpu_seconds(self._pid) - before
        if not all(played.answers):
            raise RuntimeError("a paced call failed")
        return Sample(rate, spent / count * 1e6, {}, latencies(played.waits))


def run(context: Context) -> Section:
    credentials = Credentials()
    key = credentials.key()
    asked = message(key.key)
    headers = {**GRPC, "x-authz-gateway-token": f"{GATEWAY}-grpc"}
    with ExitStack() as stack:
        ours = stack.enter_context(Ours(context.scratch / "memory", credentials, "memory://"))
        told = answer(ours, asked)
        grpc, lane, http = (
            null_server(stack, context, kind, told) for kind in ("null-grpc", "null-lane", "null-http")
        )
        by_http = http_request(key.key)
        targets = {
            "null grpc.aio": Target(grpc[1], partial(Http2, grpc[0], CHECK, headers, 32), 4, framed(asked)),
            "null lane": Target(lane[1], partial(Http2, lane[0], CHECK, headers, 32), 4, framed(asked)),
            "authz, gRPC": Target(ours.pid, ours.connect(32), 4, framed(asked)),
            "null HTTP (uvicorn)": Target(http[1], partial(Http1, http[0]), 16, by_http),
            "authz, HTTP": Target(ours.pid, ours.connect_http(), 16, by_http),
        }
        for target in targets.values():
            target.find_most()
        contestants = [
            Contestant(
                f"{name}, {share} %", partial(target.at, share), null=name == "null lane" and share == 50
            )
            for name, target in targets.items()
            for share in SHARES
        ]
        outcome = interleave(contestants, context.rounds, context.say)
    return Section(
        name="latency",
        title="Latency",
        how="At a share of what each reaches when saturated by the same client; from when a request was due to when its answer was read. "
        "The client's own pauses are part of all of them.",
        columns=FIGURES,
        rows=_rows(outcome, [each.name for each in contestants]),
        notes=outcome.dropped,
        rounds=kept(outcome),
        drawn="p99",
    )


def _rows(outcome: Outcome, names: Sequence[str]) -> list[Row]:
    def figures(name: str) -> dict[str, Spread]:
        return {figure: spread(outcome.rounds, name, figure) for figure in FIGURES}

    return [Row(name, figures(name)) for name in names]
