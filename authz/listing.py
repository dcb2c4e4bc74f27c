"""`GET /v1/models`: exactly what a caller would be allowed to use."""

from collections.abc import Sequence

from authz.authorize import Asked, authorize
from authz.canonical import Target
from authz.catalog import Catalog
from authz.peek import NOTHING, Peek
from authz.request import Request
from authz.route import FAMILIES, Route
from authz.rules import Rules
from authz.store.records import Model
from authz.subject import Subject
from authz.upstream import choose

PATH = "/v1/models"


def is_listing(target: Target) -> bool:
    """Whether the request asks for the list of models, which names none."""
    return target.method == "GET" and target.path == PATH


def open_models(
    rules: Rules, taken: Route, request: Request, target: Target, subject: Subject, now: int
) -> Sequence[Model]:
    """The models of some server for which some inference route that takes this kind of credential agrees.

    Where no route reads a model from a body, the listing route's own rules decide. `now` is in ms.
    """
    inference = [r for r in rules.routes if r.reads_body and subject.authenticator in r.authenticators]
    candidates = inference or [taken]
    return [
        model
        for model in sorted(rules.catalog, key=lambda m: m.name)
        if not rules.backends or choose(rules.backends, model.name) is not None
        if any(_agrees(route, request, target, subject, model, rules.catalog, now) for route in candidates)
    ]


def _agrees(
    route: Route,
    request: Request,
    target: Target,
    subject: Subject,
    model: Model,
    catalog: Catalog,
    now: int,
) -> bool:
    asked = Asked(
        request=request,
        target=_inference_target(route, target),
        subject=subject,
        peek=Peek(model=model.name) if route.reads_body else NOTHING,
        model=model.name,
        known=model,
        catalog=catalog,
        now=now,
    )
    return authorize(route.authorize, asked) is None


def _inference_target(route: Route, target: Target) -> Target:
    """What a call to that route would look like to a condition."""
    for family in route.match.families:
        for path in sorted(FAMILIES[family]["POST"]):
            return Target("POST", target.host, path, "")
    return target
