"""Baseten's performance proxy, its headers and preferences, through Envoy."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from authz.authenticate.key_format import mint
from tests.acceptance.lab import eventually
from tests.seeds.baseten import (
    ADA,
    CUSTOMER,
    MODEL,
    MOST_SECONDS,
    PREFERENCES,
    SLOW_SECONDS,
    TARGET,
    Proxy,
    failing,
    running_proxy,
    with_scopes,
    write_key,
)
from tests.seeds.site import code
from tests.support.any_server import Answer
from tests.support.raw_http import RawResponse

UNSAFE = "others can read the secret's file"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(tmp_path_factory.mktemp("baseten")) as proxy:
        yield proxy


@pytest.fixture
def proxy(running: Proxy) -> Proxy:
    running.baseten.received.clear()
    running.custom.received.clear()
    running.baseten.answer = running.custom.answer = lambda _: Answer()
    return running


class TestKeyOrder:
    """The client's Bearer, then the upstream key for nobody in particular where that is configured, then 401."""

    def test_a_clients_key(self, proxy: Proxy) -> None:
        assert proxy.post().status == 200
        (received,) = proxy.baseten.received
        assert received.header("authorization") == "Bearer first-upstream-key"
        assert received.header("x-authz-key") == proxy.key.id
        assert proxy.key.key not in repr(received)

    def test_the_fallback_is_off_unless_configured(self, proxy: Proxy) -> None:
        assert code(proxy.post(key=None)) == (401, "missing_credentials")
        assert not proxy.received

    def test_a_literal_key_for_nobody_in_particular(self, proxy: Proxy) -> None:
        """As a subject of its own with its own quota, which the holder of a key does not use up."""
        where = {TARGET: "https://custom.api.com"}
        assert [proxy.post("/open/x", key=None, headers=where).status for _ in range(4)] == [
            200,
            200,
            200,
            429,
        ]
        assert proxy.post("/open/x", headers=where).status == 200
        users = [each.header("x-authz-user") for each in proxy.custom.received]
        assert users == ["anyone:guest"] * 3 + ["alice"]
        assert {each.header("authorization") for each in proxy.custom.received} == {
            "Bearer literal-upstream-key"
        }

    def test_35_a_bad_key_is_not_nobody(self, proxy: Proxy) -> None:
        assert code(proxy.post("/open/x", key=mint().key)) == (401, "invalid_api_key")
        assert not proxy.received


class TestKeyFile:
    """Trimmed, read again when it changes, warned of unless 0600, never logged."""

    def test_it_is_read_again(self, proxy: Proxy) -> None:
        def seen() -> str | None:
            assert proxy.post().status == 200
            return proxy.baseten.last().header("authorization")

        assert seen() == "Bearer first-upstream-key"
        started = proxy.site.service.process
        try:
            write_key(proxy.site, "\n second-upstream-key \n")
            eventually(lambda: seen() == "Bearer second-upstream-key", seconds=15)
            assert UNSAFE not in proxy.site.service.log
            write_key(proxy.site, "third-upstream-key", mode=0o644)
            eventually(lambda: seen() == "Bearer third-upstream-key", seconds=15)
            eventually(lambda: UNSAFE in proxy.site.service.log)
        finally:
            write_key(proxy.site, "first-upstream-key")
            eventually(lambda: seen() == "Bearer first-upstream-key", seconds=15)
        assert proxy.site.service.process is started
        assert "-upstream-key" not in proxy.site.logs


class TestModelHeader:
    """`X-Baseten-Model` drives the allowlist; where the body names another it is 400."""

    def test_it_names_the_model(self, proxy: Proxy) -> None:
        assert proxy.post().status == 200
        received = proxy.baseten.last()
        assert received.header("x-authz-model") == ADA
        assert received.header(MODEL.lower()) is None

    def test_one_that_is_not_allowed(self, proxy: Proxy) -> None:
        for model in ("private", "no-such-model"):
            assert code(proxy.post(model=model)) == (403, "model_not_allowed")
        assert not proxy.received

    def test_20_it_differs_from_the_body(self, proxy: Proxy) -> None:
        body = {"input": "Hello", "model": ADA}
        assert proxy.post(body=body).status == 200
        assert code(proxy.post(body=body | {"model": "stray"})) == (400, "model_conflict")
        assert code(proxy.post(body=body, model="private")) == (400, "model_conflict")
        assert len(proxy.received) == 1

    def test_neither(self, proxy: Proxy) -> None:
        assert code(proxy.post(model=None)) == (400, "model_required")


class TestTarget:
    """`X-Target-Host`, then `target_host`, then the default, then 400; only allow-listed targets."""

    @pytest.mark.parametrize(
        ("header", "wish", "server"),
        [
            ("https://custom.api.com", None, "custom"),
            (None, "https://api.from-preferences.com", "custom"),
            (None, None, "baseten"),
            ("https://api.baseten.co", "https://api.example.com", "baseten"),
            ("https://api.example.com:443/", "https://api.baseten.co", "custom"),
        ],
    )
    def test_the_order(self, proxy: Proxy, header: str | None, wish: str | None, server: str) -> None:
        headers = {TARGET: header} if header else {}
        assert proxy.post(headers=headers, wishes={"target_host": wish} if wish else None).status == 200
        (received,) = proxy.received
        assert bool(proxy.custom.received) == (server == "custom")
        assert received.header("authorization") != f"Bearer {proxy.key.key}"
        assert not {TARGET.lower(), PREFERENCES.lower()} & {name for name, _ in received.headers}

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example",
            "http://169.254.169.254",
            "http://127.0.0.1:9002",
            "https://custom.api.com.evil.example",
            "https://custom.api.com@evil.example",
            "https://custom.api.com:8443",
            "http://custom.api.com",
            "https://custom.api.com/path",
            "custom.api.com",
            "file:///etc/passwd",
        ],
    )
    def test_anything_else_is_400(self, proxy: Proxy, target: str) -> None:
        assert code(proxy.post(headers={TARGET: target})) == (400, "target_not_allowed")
        assert code(proxy.post(wishes={"target_host": target})) == (400, "target_not_allowed")
        both = {TARGET: "https://api.baseten.co"}
        assert code(proxy.post(headers=both, wishes={"target_host": target})) == (400, "target_not_allowed")
        assert not proxy.received

    def test_no_default(self, proxy: Proxy) -> None:
        """A request that names no model has none where there are several servers."""
        assert code(proxy.post("/without-default", model=None)) == (400, "target_not_allowed")
        headers = {TARGET: "https://custom.api.com"}
        assert proxy.post("/without-default", model=None, headers=headers).status == 200
        assert len(proxy.custom.received) == len(proxy.received) == 1


class TestPreferences:
    """JSON, validated, clamped by policy, handed to Envoy."""

    def test_the_documents_own(self, proxy: Proxy) -> None:
        whole = {
            "target_host": "https://api.example.com",
            "max_concurrent_requests": 64,
            "batch_size": 32,
            "timeout_s": 30.0,
            "hedge_delay": 0.5,
            "hedge_budget_pct": 0.15,
            "retry_budget_pct": 0.08,
            "max_retries": 3,
            "initial_backoff_ms": 125,
        }
        assert proxy.post(wishes=whole).status == 200
        assert len(proxy.custom.received) == 1

    @pytest.mark.parametrize(
        "wishes",
        [
            {"timeout": 3},
            {"Timeout_s": 3},
            {"timeout_s": "3"},
            {"timeout_s": 0},
            {"timeout_s": True},
            {"max_retries": -1},
            {"max_retries": 1.5},
            {"max_concurrent_requests": 0},
            {"target_host": 7},
            '{"timeout_s": 1, "timeout_s": 2}',
            '{"timeout_s": NaN}',
            "[]",
            "timeout_s=3",
            "",
        ],
        ids=str,
    )
    def test_anything_else_is_400(self, proxy: Proxy, wishes: Any) -> None:
        answer = proxy.post(wishes=wishes)
        assert code(answer) in [(400, "invalid_preference"), (400, "target_not_allowed")]
        assert not proxy.received

    @pytest.mark.parametrize(
        ("wish", "granted"), [(60.0, MOST_SECONDS), (0.5, 0.5)], ids=["clamped", "as wished"]
    )
    def test_timeout_s(self, proxy: Proxy, wish: float, granted: float) -> None:
        proxy.baseten.answer = lambda _: Answer(after=SLOW_SECONDS)
        begun = time.monotonic()
        answer = proxy.post(wishes={"timeout_s": wish})
        took = time.monotonic() - begun
        assert code(answer) == (504, "upstream_timeout")
        assert granted <= took < SLOW_SECONDS / 2
        eventually(lambda: bool(proxy.baseten.received))  # Envoy's clock runs, has the server read it or not
        assert len(proxy.baseten.received) == 1

    def test_max_retries_rescue_a_flaky_server(self, proxy: Proxy) -> None:
        proxy.baseten.answer = failing(2)
        assert proxy.post(wishes={"max_retries": 2}).status == 200
        tries = proxy.baseten.received
        assert len(tries) == 3
        assert len({each.header("x-authz-reservation") for each in tries}) == 1
        assert {each.header("authorization") for each in tries} == {"Bearer first-upstream-key"}

    @pytest.mark.parametrize(("wish", "tries"), [(None, 1), (0, 1), (1, 2), (9, 3)], ids=str)
    def test_max_retries_are_clamped_and_off_by_default(
        self, proxy: Proxy, wish: int | None, tries: int
    ) -> None:
        proxy.baseten.answer = failing(99)
        assert proxy.post(wishes=None if wish is None else {"max_retries": wish}).status == 503
        assert len(proxy.baseten.received) == tries

    def test_hedge_delay(self, proxy: Proxy) -> None:
        proxy.baseten.answer = lambda _: Answer(after=SLOW_SECONDS if len(proxy.baseten.received) == 1 else 0)
        assert proxy.post(wishes={"hedge_delay": 0.01}).status == 200
        assert len(proxy.baseten.received) == 2

    def test_max_concurrent_requests(self, proxy: Proxy) -> None:
        go_on = threading.Event()
        proxy.baseten.answer = lambda _: Answer(pieces=(b"[", b"]"), go_on=go_on)
        key = proxy.site.key(user="batcher").key
        wishes = {"max_concurrent_requests": 1}
        first: list[RawResponse] = []
        running = threading.Thread(target=lambda: first.append(proxy.post(key=key, wishes=wishes)))
        running.start()
        try:
            eventually(lambda: len(proxy.baseten.received) == 1)
            assert code(proxy.post(key=key, wishes=wishes)) == (429, "rate_limit_exceeded")
            assert len(proxy.baseten.received) == 1
        finally:
            go_on.set()
            running.join(15)
        assert first[0].status == 200
        eventually(lambda: proxy.post(key=key, wishes=wishes).status == 200)

    def test_no_client_steers_envoy_by_itself(self, proxy: Proxy) -> None:
        proxy.baseten.answer = failing(99)
        steering = {
            "x-envoy-max-retries": "5",
            "x-envoy-retry-on": "5xx",
            "x-envoy-upstream-rq-timeout-ms": "1",
        }
        assert proxy.post(headers=steering).status == 503
        assert len(proxy.baseten.received) == 1


class TestSizes:
    """Characters of one request: 413. Inputs and tokens: 400 that says how many."""

    def test_as_large_as_it_may_be(self, proxy: Proxy) -> None:
        body = {"input": ["x" * 20] * 4}
        body["input"][0] += "é" * (400 - len(json.dumps(body)))
        data = json.dumps(body, ensure_ascii=False).encode()
        headers = {"Authorization": f"Bearer {proxy.key.key}", MODEL: ADA}
        assert len(data) > 400
        assert proxy.site.ask("envoy", "POST", "/v1/embeddings", headers, data).status == 200

    def test_too_many_characters(self, proxy: Proxy) -> None:
        assert code(proxy.post(body={"input": "x" * 400})) == (413, "request_too_large")
        assert not proxy.received

    def test_too_many_inputs(self, proxy: Proxy) -> None:
        answer = proxy.post(body={"input": ["x"] * 5})
        assert code(answer) == (400, "invalid_value")
        assert "5 inputs; at most 4" in answer.json()["error"]["message"]
        assert not proxy.received


class TestCustomerRequestId:
    """Reaches upstream, ledger and decisions; made where it is missing."""

    def test_the_clients_own(self, proxy: Proxy) -> None:
        assert proxy.post(headers={CUSTOMER: "req_123456789"}).status == 200
        received = proxy.baseten.last()
        assert received.header(CUSTOMER) == "req_123456789"
        assert proxy.entry_of(received).facts.client_request_id == "req_123456789"
        assert '"req_123456789"' in proxy.site.gateways["envoy"].log_with("req_123456789")

    def test_in_what_is_told_of_a_refusal(self, proxy: Proxy) -> None:
        key = proxy.site.key(user="refused").key  # of others the same refusal is kept already
        answer = proxy.post(key=key, model="private", headers={CUSTOMER: "req_refused"})
        assert answer.status == 403
        run = proxy.site.service.run

        def told() -> bool:
            listed = run("decisions", "list", "--user", "refused")
            return [(each["id"], each["client_request_id"]) for each in listed] == [
                (answer.header("x-request-id"), "req_refused")
            ]

        eventually(told, seconds=20)

    def test_made_where_it_is_missing(self, proxy: Proxy) -> None:
        assert proxy.post().status == proxy.post().status == 200
        made = [each.header(CUSTOMER) for each in proxy.baseten.received]
        assert all(made)
        assert len(set(made)) == 2
        assert proxy.entry_of(proxy.baseten.last()).facts.client_request_id == made[1]


class TestEndpoints:
    """`/v1/embeddings`, `/rerank`, `/predict`, `/classify`, a wildcard and `/health`; a scope per path."""

    def test_a_scope_for_each(self, proxy: Proxy) -> None:
        where = {TARGET: "https://api.baseten.co"}
        for scope, targets in (
            ("rerank", ["/rerank"]),
            ("classify", ["/predict", "/classify"]),
            ("everything", ["/any/other?a=b"]),
        ):
            for target in ("/rerank", "/predict", "/classify", "/any/other?a=b"):
                proxy.baseten.received.clear()
                answer = proxy.post(
                    target, key=with_scopes(scope), model=None, headers=where, body={"query": "What?"}
                )
                if target in targets:
                    assert answer.status == 200
                    assert proxy.baseten.last().target == target
                else:
                    assert code(answer) == (403, "not_authorized")
                    assert not proxy.baseten.received

    def test_health(self, proxy: Proxy) -> None:
        """Open to everybody, and the model server's own."""
        assert proxy.site.ask("envoy", "GET", "/health", {TARGET: "https://api.baseten.co"}).status == 200
        assert proxy.baseten.last().target == "/health"


class TestErrors:
    """Always JSON."""

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            ({"wishes": "{"}, (400, "invalid_preference")),
            ({"key": None}, (401, "missing_credentials")),
            ({"model": "private"}, (403, "model_not_allowed")),
            ({"body": {"input": "x" * 5_000_000}}, (413, "request_too_large")),
            ({"headers": {TARGET: "http://down.test"}}, (502, "upstream_unavailable")),
        ],
        ids=["400", "401", "403", "413", "502"],
    )
    def test_each(self, proxy: Proxy, more: dict[str, Any], expected: tuple[int, str]) -> None:
        answer = proxy.post(**more)
        assert code(answer) == expected
        assert (answer.header("content-type") or "").startswith("application/json")

    def test_a_401_of_the_model_server(self, proxy: Proxy) -> None:
        proxy.baseten.answer = lambda _: Answer(status=401, headers=[("www-authenticate", "Bearer")])
        answer = proxy.post()
        assert code(answer) == (502, "upstream_auth_failed")
        assert answer.header("www-authenticate") is None


def test_http_2(proxy: Proxy) -> None:
    """What the data plane does (pooling, HTTP/2, batching) is Envoy's; splitting a batch is out of scope."""
    curl = shutil.which("curl")
    assert curl is not None
    done = subprocess.run(
        [
            *(curl, "--silent", "--show-error", "--http2", "--noproxy", "*", "--max-time", "10"),
            *(
                "--cacert",
                str(proxy.site.certificates.authority),
                "--write-out",
                "%{http_code} %{http_version}",
            ),
            *("-o", "/dev/null", "-X", "POST", f"{proxy.site.gateways['envoy'].https}/v1/embeddings"),
            *("-H", f"Authorization: Bearer {proxy.key.key}", "-H", f"{MODEL}: {ADA}"),
            *("-H", "Content-Type: application/json"),
            *("-d", '{"input": ["Hello world", "How are you?"], "encoding_format": "float"}'),
        ],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.stdout, done.stderr) == ("200 2", "")
