"""Routes: nothing matches by accident (attacks 10-12, 16, 19)."""

from itertools import product

import pytest

from authz.authenticate.presented import Presented
from authz.canonical import Target, read
from authz.request import Gateway, GatewayKind, Request
from authz.route import Match, PathPattern
from tests.support.lab import Lab

EDGE = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True)


def ask(method: str, path: str, host: str = "llm.test", **headers: str) -> tuple[Target, Request]:
    request = Request(
        gateway=EDGE, request_id="r", method=method, target=path, host=host, scheme="https",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )  # fmt: skip
    target = read(request)
    assert isinstance(target, Target)
    return target, request


@pytest.mark.parametrize(
    ("pattern", "path", "variables"),
    [
        ("/v1/chat", "/v1/chat", {}),
        ("/v1/chat", "/v1/chatX", None),
        ("/v1/chat", "/v1/chat/", None),
        ("/v1/chat", "/V1/chat", None),
        ("/v1/chat/*", "/v1/chat/x", {}),
        ("/v1/chat/*", "/v1/chat/x/y", {}),
        ("/v1/chat/*", "/v1/chatX", None),
        ("/v1/chat/*", "/v1/chat", None),
        ("/v1/chat/*", "/v1/chat/", None),
        ("/*", "/", {}),
        ("/*", "/anything/at/all", {}),
        ("/deploy/{model}/chat", "/deploy/llama3/chat", {"model": "llama3"}),
        ("/deploy/{model}/chat", "/deploy/a/b/chat", None),
        ("/deploy/{model}/chat", "/deploy//chat", None),
        ("/a.b", "/aXb", None),
        ("/{x}/a.b", "/1/aXb", None),
    ],
)
def test_paths(pattern: str, path: str, variables: dict[str, str] | None) -> None:
    assert PathPattern.parse(pattern).match(path) == variables


@pytest.mark.parametrize(
    "pattern", ["v1/chat", "/v1*", "/v1/*/x", "/v1/{model", "/v1/x{model}", "/v1/{Model}"]
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="path"):
        PathPattern.parse(pattern)


@pytest.mark.parametrize(
    ("method", "path", "matches"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1/completions", True),
        ("POST", "/v1/embeddings", True),
        ("POST", "/v1/responses", True),
        ("GET", "/v1/models", True),
        ("GET", "/v1/chat/completions", False),
        ("OPTIONS", "/v1/chat/completions", False),
        ("POST", "/v1/messages", False),
        ("POST", "/v1/chat/completions/x", False),
        ("DELETE", "/v1/models", False),
    ],
)
def test_the_openai_family(method: str, path: str, matches: bool) -> None:
    assert (Match(families=("openai",))(*ask(method, path)) is not None) is matches


def test_every_part_must_hold() -> None:
    match = Match(
        methods=frozenset({"POST"}),
        paths=(PathPattern.parse("/x"),),
        hosts=frozenset({"llm.test", "*.example.com"}),
        headers=(("x-tier", "gold"), ("x-any", None)),
    )
    assert match(*ask("POST", "/x", x_tier="gold", x_any="1")) is not None
    assert match(*ask("POST", "/x", "a.example.com", x_tier="gold", x_any="1")) is not None
    assert match(*ask("GET", "/x", x_tier="gold", x_any="1")) is None
    assert match(*ask("POST", "/y", x_tier="gold", x_any="1")) is None
    assert match(*ask("POST", "/x", "example.com", x_tier="gold", x_any="1")) is None
    assert match(*ask("POST", "/x", "a.b.example.com", x_tier="gold", x_any="1")) is None
    assert match(*ask("POST", "/x", x_tier="silver", x_any="1")) is None
    assert match(*ask("POST", "/x", x_tier="gold")) is None


@pytest.mark.parametrize("host", ["LLM.test", "llm.test.", "llm.test:443"])
def test_attack_16_a_host_is_compared_in_canonical_form(host: str) -> None:
    match = Match(hosts=frozenset({"llm.test"}), paths=(PathPattern.parse("/*"),))
    assert match(*ask("GET", "/x", host)) is not None


def test_nothing_given_matches_nothing() -> None:
    assert Match()(*ask("GET", "/")) is None


def test_a_repeated_header_matches_no_header_rule() -> None:
    target, request = ask("GET", "/", x_tier="gold")
    twice = Request(
        gateway=EDGE, request_id="r", method="GET", target="/", host="llm.test", scheme="https",
        headers=request.headers, repeated=frozenset({"x-tier"}),
    )  # fmt: skip
    match = Match(paths=(PathPattern.parse("/*"),), headers=(("x-tier", "gold"),))
    assert match(target, request) is not None
    assert match(target, twice) is None
    assert Presented(twice).request is twice


ROUTES = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
routes:
"""
ENTRY = """
  - {{name: "{name}", match: {match}, authenticate: {{any_of: [keys]}}, authorize: [{{models: any}}]}}"""
MATCHES = (
    "{methods: [GET], paths: [/v1/models, /a]}",
    "{hosts: [other.test], paths: ['/*']}",
    "{paths: [/a/*, /b]}",
    "{api: [openai]}",
    "{paths: ['/v1/{model}/completions', /a/b]}",
    "{api: [anthropic], headers: {x-tier: gold}}",
    "{paths: [/b, /v1/messages]}",
    "{methods: [POST], paths: ['/v1/*']}",
)
PATHS = ("/", "/a", "/a/b", "/a/c", "/b", "/c", "/v1/models", "/v1/messages", "/v1/chat/completions", "/v1/x")


@pytest.mark.parametrize("turned", [False, True])
def test_the_first_route_that_matches_is_found_whatever_stands_before_it(turned: bool) -> None:
    matches = MATCHES[::-1] if turned else MATCHES
    entries = [ENTRY.format(name=f"r{at}", match=match) for at, match in enumerate(matches)]
    rules = Lab(ROUTES + "".join(entries)).rules
    met = set()
    for path, method, host, tier in product(PATHS, ("GET", "POST"), ("llm.test", "other.test"), ("", "gold")):
        asked = ask(method, path, host, x_tier=tier)
        tried = ((route, route.match(*asked)) for route in rules.routes)
        first = next(((route, variables) for route, variables in tried if variables is not None), None)
        assert rules.find(*asked) == first, (path, method, host, tier)
        met.add(first[0].name if first is not None else None)
    assert len(met) == len(MATCHES) + 1, "each is met, and what no route takes"
