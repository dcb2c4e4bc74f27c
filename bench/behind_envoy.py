"""What a client behind a real Envoy waits: ours beside null servers at the same ext_authz filter, in turns.

One Envoy with a listener for each, alike but for the server that they ask. It answers by itself, so that no model
server is part of what is waited for. Envoy and the servers share the server's core.
"""

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.connections import Http1
from bench.figures import Sample, Spread, latencies, spread
from bench.lanes import null_server
from bench.machine import SERVER_CORE, cpu_seconds, pin
from bench.ours import BODY, CHAT, GATEWAY, Credentials, Ours, answer, message
from bench.replay import Played, Replay
from bench.section import Claim, Context, Row, Section
from tests.support.envoy import command
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers

PAIRS = 20
PER_SECOND = (250, 1000, 2000)  # to both together; at 250 each request is alone
SECONDS = 2.0  # of a pair,
LEAST = 400  # and requests to each
CONNECTIONS = 16
QUIET = 10_000  # microseconds of the null server's p99, above which the machine was busy with something else
OURS = "authz"
NULLS = {"null lane": "null-lane", "null grpc.aio": "null-grpc"}
FIGURES = {"p50": "p50 µs", "p99": "p99 µs", "p99.9": "p99.9 µs", "cpu_us": "CPU µs", "envoy": "Envoy CPU µs"}


def _cluster(name: str, port: int) -> dict[str, object]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    protocol = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
    }  # fmt: skip


def _listener(name: str, port: int) -> dict[str, object]:
    envoy = "type.googleapis.com/envoy.extensions.filters"
    check = {
        "@type": f"{envoy}.http.ext_authz.v3.ExtAuthz", "transport_api_version": "V3", "failure_mode_allow": False,
        "grpc_service": {
            "envoy_grpc": {"cluster_name": name}, "timeout": "2s",
            "initial_metadata": [{"key": "x-authz-gateway-token", "value": f"{GATEWAY}-grpc"}],
        },
        "with_request_body": {"max_request_bytes": 65536, "allow_partial_message": False, "pack_as_bytes": True},
        "encode_raw_headers": True,
    }  # fmt: skip
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"{envoy}.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
        "codec_type": "HTTP1",
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": check},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{envoy}.http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }  # fmt: skip
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": filters}],
    }  # fmt: skip


def envoy(stack: ExitStack, scratch: Path, asked: dict[str, int]) -> tuple[Process, dict[str, int]]:
    """One that asks each of these servers at a listener of its own: the process, and the listeners' ports."""
    ports = {name: free_port() for name in asked}
    names = {name: f"s{at}" for at, name in enumerate(asked)}
    resources = {
        "listeners": [_listener(names[name], port) for name, port in ports.items()],
        "clusters": [_cluster(names[name], port) for name, port in asked.items()],
    }
    file = scratch / "envoy.json"
    file.write_text(json.dumps({"static_resources": resources}))
    process = Process(command(str(file)), log=scratch / "envoy.log")
    stack.callback(process.stop)
    process.wait_until(lambda: all(map(port_answers, ports.values())))
    pin(process.pid, SERVER_CORE)
    return process, ports


def run(context: Context) -> Section:
    credentials = Credentials()
    key = credentials.key()
    lines = [
        f"POST {CHAT} HTTP/1.1", "host: llm.test", f"content-length: {len(BODY)}", "content-type: application/json",
        f"authorization: Bearer {key.key}",
    ]  # fmt: skip
    request = "\r\n".join(lines).encode() + b"\r\n\r\n" + BODY
    with ExitStack() as stack:
        ours = stack.enter_context(Ours(context.scratch / "memory", credentials, "memory://"))
        told = answer(ours, message(key.key))
        nulls = {name: null_server(stack, context, kind, told) for name, kind in NULLS.items()}
        asked = {name: port for name, (port, _) in nulls.items()} | {OURS: ours.grpc}
        gateway, ports = envoy(stack, context.scratch, asked)
        found = {}
        for null, (_, process) in nulls.items():
            course = _Course(request, ports, {null: process, OURS: ours.pid}, gateway.pid)
            for rate in PER_SECOND:
                course.pair(rate)  # to warm
                found[null, rate] = [course.pair(rate) for _ in range(max(PAIRS, context.rounds))]
                added = _added(found[null, rate], null).median / 1000
                context.say(f"beside a {null}, {rate} per second: {added:.2f} ms at the 99th percentile")
    return Section(
        name="envoy",
        title="Behind a real Envoy",
        how=f"{max(PAIRS, context.rounds)} pairs at each rate of requests per second, which is that to both servers together, in turns, "
        "request by request, so that whatever disturbs one disturbs both. One Envoy of one thread asks by `ext_authz` and answers by "
        "itself; Envoy and the servers share one core. The rarer requests are, the more each costs: what the core kept at hand of the "
        "server is gone by then, and each wakes everybody up.",
        columns=FIGURES,
        rows=[
            Row(f"{name}, {rate}/s{f', beside {null}' if name == OURS else ''}", *_told(pairs, name, rate))
            for (null, rate), pairs in found.items()
            for name in (null, OURS)
        ],
        claims=[_claim(pairs, rate, null) for (null, rate), pairs in found.items()],
        rounds=[dict(each) for pairs in found.values() for each in pairs],
        drawn="p99",
    )


class _Course:
    """One Envoy before two servers, and who asks it."""

    def __init__(self, request: bytes, ports: dict[str, int], pids: dict[str, int], envoy: int) -> None:
        self._request = request
        self._connect = [partial(Http1, ports[name]) for name in pids]
        self._pids = pids
        self._envoy = envoy

    def pair(self, rate: int) -> dict[str, Sample]:
        """As many requests to the one as to the other."""
        count = _count(rate)
        with Replay(self._connect[0], CONNECTIONS, self._connect[1]) as replay:
            before = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
            apart = cpu_seconds(self._envoy)
            played = replay.pace([self._request], 2 * count, rate)
            spent = {name: cpu_seconds(pid) - before[name] for name, pid in self._pids.items()}
            told = {"envoy": (cpu_seconds(self._envoy) - apart) / (2 * count) * 1e6}
        _all_passed(played)
        return {
            name: Sample(rate / 2, spent[name] / count * 1e6, told, latencies(played.waits[at::2]))
            for at, name in enumerate(self._pids)
        }


def _count(rate: int) -> int:
    """Requests to each server in one pair."""
    return max(LEAST, round(rate * SECONDS / 2))


def _told(pairs: list[dict[str, Sample]], name: str, rate: int) -> tuple[dict[str, Spread], str]:
    """Figures of a row, and how many requests passed."""
    figures = {figure: spread(pairs, name, figure) for figure in FIGURES}
    passed = len(pairs) * _count(rate)  # all of them, or the run was given up
    return figures, f"{passed} of {passed}"


def _added(pairs: list[dict[str, Sample]], null: str) -> Spread:
    return Spread.of([each[OURS].value("p99") - each[null].value("p99") for each in pairs])


def _claim(pairs: list[dict[str, Sample]], rate: int, null: str) -> Claim:
    noise, added = spread(pairs, null, "p99").median, _added(pairs, null)
    found = f"{added.median / 1000:.2f} ms ({added.least / 1000:.2f} to {added.most / 1000:.2f})"
    if noise > QUIET:
        found += f"; too busy a machine to tell, the null server's own p99 is {noise / 1000:.0f} ms"
    return Claim(
        f"at {rate} per second authz adds at most 0.5 ms to the p99 of a {null} (median of the pairs)",
        added.median <= 500 and noise <= QUIET,
        found,
    )


def _all_passed(played: Played) -> None:
    other = {each for each in played.answers if b" 200 " not in each}
    if other:
        raise RuntimeError(f"behind Envoy: {other}")
