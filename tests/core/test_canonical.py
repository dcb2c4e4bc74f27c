"""Paths, hosts and methods: what is not canonical is refused (attacks 1-19)."""

import pytest

from authz import canonical
from authz.canonical import Target, canonical_host, path_fault, read
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import Gateway, GatewayKind, Request
from authz.route import PathPattern

EDGE = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True)


def ask(
    target: str, *, method: str = "GET", host: str = "llm.test", headers: dict[str, str] | None = None
) -> Request:
    return Request(
        gateway=EDGE,
        request_id="r",
        method=method,
        target=target,
        host=host,
        scheme="https",
        headers=headers or {},
    )


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/chat/completions",
        "/v1/models/",
        "/a-b_c~d.e",
        "/v1/models/llama3:8b",
        "/v1/%E2%82%AC",
        "/a@b",
        "/(x)",
        "/..a/b..",
        "/.well-known/x",
    ],
)
def test_canonical_paths_pass(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    ("attack", "path"),
    [
        (1, "/pub/../admin"),
        (1, "/pub/.."),
        (1, "/./v1"),
        (2, "/%2e%2e/admin"),
        (2, "/%2E%2E/admin"),
        (3, "/%2f..%2f"),
        (3, "/v1%2Fmodels"),
        (4, "//admin"),
        (4, "/v1//models"),
        (5, "/..;/admin"),
        (5, "/v1/models;p=1"),
        (5, "/v1/models%3Bp=1"),
        (6, "/v1/models#frag"),
        (6, "/v1/models%23frag"),
        (7, "/\\..\\admin"),
        (7, "/v1%5Cmodels"),
        (8, "/v1/%00"),
        (8, "/v1/%zz"),
        (8, "/v1/%"),
        (8, "/v1/%4"),
        (8, "/v1/%C0%AF"),
        (8, "/v1/%FF"),
        (8, "/v1/\x01"),
        (8, "/v1/ä"),
        (9, "/%252e%252e/admin"),
        (9, "/v1/%41"),
        (9, "/v1/models/llama3%3A8b"),
        (9, "/a%40b"),
        (9, "/%28x%29"),
        (9, "/it%27s"),
        (9, "/a%2Cb%2B%3D%26%21%24%2A"),
        (13, "http://other.test/v1/models"),
        (14, "*"),
        (14, ""),
        (14, "v1/models"),
        (14, "llm.test:443"),
        (15, "/v1/models%3Fx=1"),
        (8, "/v1/%e2%82%ac"),
        (39, "/v1/a b"),
        (39, "/v1/%0D%0A"),
    ],
)
def test_other_paths_are_refused(attack: int, path: str) -> None:
    answer = read(ask(path))
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BAD_PATH


@pytest.mark.parametrize("query", ["a=1&b=%20", "q=a+b", "x[]=1", ""])
def test_queries_pass(query: str) -> None:
    assert isinstance(read(ask(f"/v1/models?{query}")), Target)


@pytest.mark.parametrize("query", ["a=b#c", "a=%zz", "a=\x00", "a=b c", "a=ä"])
def test_odd_queries_are_refused(query: str) -> None:
    answer = read(ask(f"/v1/models?{query}"))
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BAD_PATH


def test_a_target_has_a_longest_length() -> None:
    assert isinstance(read(ask("/" + "a" * 8191)), Target)
    assert isinstance(read(ask("/" + "a" * 8192)), Refusal)


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("llm.test", "llm.test"),
        ("LLM.Test", "llm.test"),
        ("llm.test.", "llm.test"),
        ("llm.test:80", "llm.test"),
        ("llm.test:443", "llm.test"),
        ("llm.test:8443", "llm.test:8443"),
        ("[::1]:9000", "[::1]:9000"),
        ("ok/public?", None),
        ("a b", None),
        ("", None),
        ("a..b", None),
        ("user@llm.test", None),
        ("llm.test:99999", None),
        ("llm.test, other.test", None),
        ("llm.test\r\nx: y", None),
        ("a" * 256, None),
    ],
)
def test_hosts(host: str, canonical: str | None) -> None:
    assert canonical_host(host) == canonical
    answer = read(ask("/", host=host))
    assert answer.host == canonical if isinstance(answer, Target) else answer.reason is Reason.BAD_HOST


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "G E T", "", "PROPFIND"])
def test_odd_methods_are_refused(method: str) -> None:
    answer = read(ask("/", method=method))
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BAD_METHOD


@pytest.mark.parametrize("name", ["x-http-method-override", "x-http-method", "x-method-override"])
def test_a_method_override_is_refused(name: str) -> None:
    answer = read(ask("/", headers={name: "DELETE"}))
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BAD_HEADER


def test_attack_9_no_escape_goes_round_a_route_that_is_written_out() -> None:
    """Servers decode a path before they choose a handler: both spellings are one path to them."""
    strict, rest = (PathPattern.parse(text) for text in ("/v1/models/big:unload", "/v1/*"))
    asked = read(ask("/v1/models/big:unload"))
    assert isinstance(asked, Target)
    assert strict.match(asked.path) is not None
    for twin in ("/v1/models/big%3Aunload", "/v1/models/b%69g:unload"):
        assert rest.match(twin) is not None, "it would take the next route"
        assert isinstance(read(ask(twin)), Refusal)


def test_what_is_remembered_is_short() -> None:
    """However long what clients send is: they choose all of it, and need no credential."""
    for caches in (canonical._known_target, canonical._known_host):
        caches.cache_clear()
    long = "A" * 60_000
    for request in (ask("/", method=long), ask("/" + long), ask("/", host=long), ask("/?x", host=long)):
        assert isinstance(read(request), Refusal)
    assert canonical._known_target.cache_info().currsize == 0
    assert canonical._known_host.cache_info().currsize == 0


def test_no_query_is_remembered() -> None:
    """It may hold a credential."""
    canonical._known_target.cache_clear()
    assert isinstance(read(ask("/v1/models?key=sk-az-secret")), Target)
    assert canonical._known_target.cache_info().currsize == 0
    assert isinstance(read(ask("/v1/models")), Target)
    assert canonical._known_target.cache_info().currsize == 1
