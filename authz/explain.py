"""`authz check`: the very way of a request, stage by stage, spending nothing."""

import json
from collections.abc import Mapping

from msgspec import Struct

from authz.config.load import Loaded
from authz.decide import Decider
from authz.decision import Decision, Stage
from authz.request import BodyState, Gateway, GatewayKind, Request
from authz.ruleset import Authenticators, build_rules
from authz.store.embedded import Store
from authz.store.protocols import Clock

_ASKING = Gateway(name="check", kind=GatewayKind.ENVOY, proven=True)


class Question(Struct, frozen=True, kw_only=True):
    """A request to explain. Without a body, `model` makes one where the method takes one."""

    path: str
    method: str = "POST"
    host: str = "localhost"
    model: str | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = {}  # names in lower case
    key: str | None = None  # an API key or a token; sent as a bearer credential
    ip: str | None = None

    def __repr__(self) -> str:
        return f"<Question {self.method} {self.path.partition('?')[0]}>"


class Explanation(Struct, frozen=True):
    """What each stage said, up to the first that refused; and the decision."""

    stages: tuple[Stage, ...]
    decision: Decision


async def explain(loaded: Loaded, store: Store, question: Question, clock: Clock) -> Explanation:
    """The decision for a request, by the store's counters as they are now.

    Raises NotInThisVersion, StoreUnavailable and SecretMissing.
    """
    authenticators = Authenticators(loaded.config, store.directory, clock)
    rules = build_rules(loaded, authenticators, store.directory)
    decider = Decider(rules, store.directory, store.counters, clock)
    trail: list[Stage] = []
    authenticators.start()
    try:
        decision = await decider.decide(_request(question), trail=trail, charge=False)
    finally:
        await authenticators.close()
    return Explanation(tuple(trail), decision)


def _request(question: Question) -> Request:
    body = question.body
    if body is None:
        has_body = question.model is not None and question.method in ("POST", "PUT", "PATCH")
        body = json.dumps({"model": question.model}).encode() if has_body else b""
    headers = dict(question.headers)
    if body:
        headers.setdefault("content-type", "application/json")
    if question.key is not None:
        headers["authorization"] = f"Bearer {question.key}"
    return Request(
        gateway=_ASKING,
        request_id="check",
        method=question.method,
        target=question.path,
        host=question.host,
        scheme="https",
        headers=headers,
        body=body,
        body_state=BodyState.WHOLE if body else BodyState.NONE,
        ip=question.ip,
    )
