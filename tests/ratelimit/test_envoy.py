"""A real Envoy with its rate limit filter asks a real `authz serve`."""

import http.client
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ratelimit.kit import put
from tests.redis.link_kit import PATIENT
from tests.support.backends import Backend
from tests.support.envoy import command
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers
from tests.support.redis import RedisServer
from tests.support.service import AuthzService

LIMITS = """
domain: edge
descriptors:
  - key: user
    rate_limit: {unit: year, requests_per_unit: 3}
  - key: user
    value: guest
    rate_limit: {unit: year, requests_per_unit: 0}
  - key: path
    value: /v1/*
    rate_limit: {unit: year, requests_per_unit: 5}
"""

ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {http}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          http_filters:
          - name: envoy.filters.http.ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
              domain: edge
              failure_mode_deny: true
              timeout: 10s
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              rate_limit_service:
                transport_api_version: V3
                grpc_service: {{envoy_grpc: {{cluster_name: authz}}, timeout: 10s}}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              rate_limits:
              - actions: [{{request_headers: {{header_name: x-user, descriptor_key: user}}}}]
              - actions: [{{request_headers: {{header_name: ":path", descriptor_key: path}}}}]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: model}}
  clusters:
  - name: authz
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: authz
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {authz}}}}}}}}}]}}]
  - name: model
    type: STATIC
    load_assignment:
      cluster_name: model
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {model}}}}}}}}}]}}]
"""

HEADERS = {"LIMIT_RESPONSE_HEADERS_ENABLED": "true"}
Answer = tuple[int, dict[str, str]]


class Scene:
    """Envoy, authz and a model server."""

    def __init__(self, service: AuthzService, limits: Path, http: int) -> None:
        self.service = service
        self.limits = limits
        self._http = http

    def get(self, path: str, user: str = "") -> Answer:
        """Status and headers, names in lower case."""
        connection = http.client.HTTPConnection("127.0.0.1", self._http, timeout=30)
        try:
            connection.request("GET", path, headers={"x-user": user} if user else {})
            response = connection.getresponse()
            response.read()
            return response.status, {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()

    def statuses(self, path: str, user: str, times: int) -> list[int]:
        return [self.get(path, user)[0] for _ in range(times)]


def started(
    stack: ExitStack, directory: Path, *, store: str = "", workers: int = 1, compat: bool = False
) -> Scene:
    limits = directory / "limits"
    limits.mkdir()
    (limits / "edge.yaml").write_text(LIMITS)
    options = ["--ratelimit-config", str(limits), *(["--ratelimit-compat"] if compat else [])]
    service = stack.enter_context(
        AuthzService(directory / "authz", "", env=HEADERS, store=store, workers=workers, options=options)
    )
    backend = stack.enter_context(Backend())
    http = free_port()
    config = directory / "envoy.yaml"
    config.write_text(ENVOY.format(http=http, authz=service.grpc, model=backend.port))
    envoy = Process(command(str(config)), log=directory / "envoy.log", cwd=directory)
    stack.callback(envoy.stop)
    envoy.wait_until(lambda: port_answers(http))
    return Scene(service, limits, http)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield started(stack, tmp_path)


def test_requests_are_limited_and_told_so(scene: Scene) -> None:
    left = []
    for _ in range(3):
        status, headers = scene.get("/x", "alice")
        assert status == 200
        assert headers["x-ratelimit-limit"].split(",")[0] == "3"
        assert headers["ratelimit-limit"] == "3"
        assert headers["x-ratelimit-remaining"] == headers["ratelimit-remaining"]
        left.append(headers["x-ratelimit-remaining"])
    assert left == ["2", "1", "0"]
    status, headers = scene.get("/x", "alice")
    assert (status, headers["x-ratelimit-remaining"]) == (429, "0")
    assert 0 < int(headers["x-ratelimit-reset"]) <= 31_536_000
    assert headers["ratelimit-reset"] == headers["x-ratelimit-reset"]
    assert scene.statuses("/x", "bob", 1) == [200]
    assert scene.statuses("/x", "guest", 1) == [429]


def test_a_refused_request_is_not_charged_elsewhere(scene: Scene) -> None:
    assert scene.statuses("/v1/models", "guest", 6) == [429] * 6
    assert scene.statuses("/v1/models", "", 6) == [200] * 5 + [429]
    assert scene.statuses("/x", "", 1) == [200]  # no limit is met


def test_changed_limits_come_into_force_and_wrong_ones_do_not(scene: Scene) -> None:
    assert scene.statuses("/x", "alice", 4) == [200] * 3 + [429]
    process = scene.service.process
    assert process is not None
    file = scene.limits / "edge.yaml"
    put(file, LIMITS.replace("per_unit: 3", "per_units: 4"))
    process.wait_until(lambda: "rate limits not reloaded" in scene.service.log)
    assert "edge.yaml:5:30: unknown key `requests_per_units`" in scene.service.log
    assert scene.statuses("/x", "alice", 1) == [429]
    put(file, LIMITS.replace("per_unit: 3", "per_unit: 4"))
    process.wait_until(lambda: "rate limits reloaded" in scene.service.log)
    assert scene.statuses("/x", "alice", 2) == [200, 429]
    process.signal(signal.SIGHUP)
    process.wait_until(lambda: scene.service.log.count("rate limits reloaded") == 2)


def test_workers_on_redis_charge_all_with_compat(tmp_path: Path, server: RedisServer) -> None:
    with ExitStack() as stack:
        scene = started(stack, tmp_path, store=server.url + PATIENT, workers=2, compat=True)
        assert scene.statuses("/v1/models", "guest", 6) == [429] * 6
        assert scene.statuses("/v1/models", "", 1) == [429]
        assert scene.statuses("/x", "alice", 4) == [200] * 3 + [429]
