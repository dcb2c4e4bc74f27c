"""Ways to write a path that two readers may read differently: each must be refused."""

from collections.abc import Iterator
from typing import Final

from authz.probe.finding import Finding, judged
from authz.probe.scene import MODELS, Scene, told

_TRICKS: Final = (
    "//v1/models",
    "/v1//models",
    "/v1/./models",
    "/v1/x/../models",
    "/v1/%2e%2e/v1/models",
    "/v1%2fmodels",
    "/v1%5cmodels",
    "/v1/models%00",
    "/v1/models#x",
)
_ELSEWHERE: Final = "/authz-gateways-test"
_ADVICE: Final = "judge and forward one and the same path: refuse what is not canonical (docs/gateways.md)"


def path_tricks(scene: Scene) -> Iterator[Finding]:
    """With a good key: it is the path that is refused."""
    for path in (*_TRICKS, f"{scene.target.origin}{MODELS}"):
        answer = scene.ask("GET", path, key=scene.key)
        name = f"the path {path}" if path.startswith("/") else "a whole URL on the request line"
        yield judged(name, "4xx", told(answer), 400 <= answer.status < 500, _ADVICE)


def path_in_a_header(scene: Scene) -> Iterator[Finding]:
    """A path that nothing serves, and headers that speak of one that is open."""
    plain = scene.ask("GET", _ELSEWHERE, key=scene.key)
    names = ("X-Forwarded-Uri", "X-Original-Uri", "X-Original-Url", "X-Rewrite-Url")
    method = [("X-Forwarded-Method", "GET"), ("X-Original-Method", "GET")]
    answer = scene.ask("GET", _ELSEWHERE, [*((name, MODELS) for name in names), *method], key=scene.key)
    yield judged(
        "another path in X-Forwarded-Uri, X-Original-*",
        f"as without: {told(plain)}",
        told(answer),
        answer.status == plain.status,
        "the client tells authz which path to judge: remove these headers before asking",
    )
