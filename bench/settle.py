"""One settlement in process, beside the check that it settles: microseconds of CPU, the best of seven.

With four limits, two of them in tokens and money. The settlement is measured alone, as a report over
HTTP out of a batch, and as an entry of Envoy's access log, decoding included.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import msgspec
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from authz.decision import Allow
from authz.report import Report
from authz.request import Request
from authz.transport.access_log import AccessLog
from authz.transport.access_log_entry import DECISION, USAGE
from authz.transport.gateways import GatewayRegistry
from authz.transport.usage import Usages
from authz.usage import Usage
from tests.support.lab import EDGE, Lab, step

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
    limits: [key-minute, user-day, team-month, model-hour]
limits:
  key-minute: {unit: requests, quota: 1G, window: 1m, partition_by: [key]}
  user-day: {unit: tokens, quota: 1000G, window: day, partition_by: [user]}
  team-month: {unit: cost, quota: 1M, window: month, partition_by: [team]}
  model-hour: {unit: requests, quota: 1G, window: 1h, partition_by: [model], algorithm: fixed}
"""
COUNT = 2000
RUNS = 7


class Bench:
    """One key that asks, and reports of what it used."""

    def __init__(self) -> None:
        self.lab = Lab(CONFIG)
        self.key = self.lab.key("alice", team="nlp")
        self.made: list[str] = []  # the reservations of the last requests
        self.usages = Usages(self.lab.service, _ignored)
        self.log = AccessLog(self.lab.service, GatewayRegistry(()), reject=_ignored)

    def requests(self) -> list[Request]:
        return [self.lab.request(key=self.key, lease_ms=60_000) for _ in range(COUNT)]

    def decide(self, requests: list[Request]) -> None:
        self.made = []
        for request in requests:
            decision = step(self.lab.service.decide(request))
            assert isinstance(decision, Allow)
            assert decision.reservation is not None
            self.made.append(decision.reservation)

    def settle(self, reports: list[Report]) -> None:
        for report in reports:
            step(self.lab.service.settle(report, EDGE))

    def post(self, bodies: list[bytes]) -> None:
        loop = asyncio.new_event_loop()
        for body in bodies:
            loop.run_until_complete(self.usages.take(body, EDGE))
        loop.close()

    def take(self, messages: list[bytes]) -> None:
        for message in messages:
            step(self.log.take(message, EDGE))

    def best(self, work: Callable[[], object]) -> float:
        started = time.process_time()
        work()
        taken = time.process_time() - started
        self.lab.store.keep_up()  # what gathers for the writer is its own
        self.lab.store.wait_for_writer()
        return taken / COUNT * 1e6


def _ignored(gateway: str, reason: str) -> None:
    return


def report(reservation: str) -> Report:
    return Report(
        reservation=reservation,
        usage=Usage(20, 9),
        status=200,
        streamed=True,
        response_bytes=2000,
        duration_ms=532,
    )


def written(reservations: list[str]) -> list[bytes]:
    """Bodies of a hundred reports each."""
    items = [
        {
            "reservation": each,
            "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
            "status": 200,
            "reached": True,
            "aborted": False,
            "streamed": True,
            "response_bytes": 2000,
            "duration_ms": 532,
        }
        for each in reservations
    ]
    return [msgspec.json.encode(items[start : start + 100]) for start in range(0, len(items), 100)]


def logged(reservation: str) -> bytes:
    message = StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    common = entry.common_properties
    common.access_log_type = 6  # type: ignore[assignment]
    common.upstream_remote_address.socket_address.address = "10.0.0.5"
    common.time_to_last_downstream_tx_byte.FromMilliseconds(532)
    told = {"reservation": reservation, "request_id": "req_1", "user": "alice", "model": "llama3"}
    common.metadata.filter_metadata[DECISION].update(told)
    common.metadata.filter_metadata[USAGE].update({"input": 20, "output": 9, "total": 29})
    entry.request.path = "/v1/chat/completions"
    entry.request.request_id = "5f3e9a7c-2b1d-4e8f-9a6b-7c8d9e0f1a2b"
    entry.response.response_code.value = 200
    entry.response.response_body_bytes = 2000
    entry.response.response_headers["content-type"] = "text/event-stream"
    return message.SerializeToString()


def main() -> None:
    bench = Bench()
    ways: list[tuple[str, Callable[[list[str]], Callable[[], object]]]] = [
        ("a settlement", lambda made: partial(bench.settle, [report(each) for each in made])),
        ("out of a report over HTTP", lambda made: partial(bench.post, written(made))),
        ("out of Envoy's access log", lambda made: partial(bench.take, [logged(each) for each in made])),
    ]
    found: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for name, prepared in ways:
            checking = partial(bench.decide, bench.requests())
            found.setdefault("check, 4 limits, 2 of tokens", []).append(bench.best(checking))
            found.setdefault(name, []).append(bench.best(prepared(bench.made)))
    for name, runs in found.items():
        print(f"{name:<28} {min(runs):6.1f} µs")


if __name__ == "__main__":
    main()
