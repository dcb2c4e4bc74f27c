"""`authz check`: the very way of a request, stage by stage, spending nothing."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote_plus

from msgspec import Struct

from authz.authenticate.presented import AUTHORIZATION, Slot
from authz.config.load import Loaded
from authz.decide import Decider
from authz.decision import Decision, Deny, StageName
from authz.known import Known
from authz.limit.admission import Admission
from authz.limit.estimate import Bound
from authz.limit.verdict import describe
from authz.request import BodyState, Gateway, GatewayKind, Request
from authz.ruleset import Authenticators, build_rules
from authz.store.protocols import Clock
from authz.store.store import Store

_ASKING = Gateway(name="check", kind=GatewayKind.ENVOY, proven=True)


class Question(Struct, frozen=True, kw_only=True):
    """A request to explain. Without a body, `model` makes one where the method takes one."""

    path: str
    method: str = "POST"
    host: str = "localhost"
    model: str | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = {}  # names in lower case
    key: str | None = None  # an API key, a token, a shared secret, or the password of `user`
    key_in: Slot = AUTHORIZATION  # where it stands; in Authorization as a bearer credential
    user: str | None = None
    certificate: str | None = None  # the client's, in PEM
    ip: str | None = None

    def __repr__(self) -> str:
        return f"<Question {self.method} {self.path.partition('?')[0]}>"


class Stage(Struct, frozen=True):
    """What one step of the way said."""

    name: StageName
    passed: bool
    text: str


class Explanation(Struct, frozen=True):
    """What each stage said, up to the first that refused; and the decision."""

    stages: tuple[Stage, ...]
    decision: Decision
    admission: Admission = "worst_case"
    bound: Bound | None = None  # the most that the request may use; None where it did not get so far


async def explain(loaded: Loaded, store: Store, question: Question, clock: Clock) -> Explanation:
    """The decision for a request, by the store's counters as they are now.

    Raises StoreUnavailable and SecretMissing.
    """
    authenticators = Authenticators(loaded.config, store.directory, clock)
    rules = build_rules(loaded, authenticators, store.directory)
    decider = Decider(rules, store.directory, store.counters, clock)
    known = Known(_request(question))
    authenticators.start()
    try:
        decision = await decider.follow(known, charge=False)
    finally:
        await authenticators.close()
    return Explanation(tuple(_stages(known, decision)), decision, known.admission, known.bound)


def _stages(known: Known, decision: Decision) -> Iterator[Stage]:
    for name, says in _SAYS.items():
        if name == known.stage and isinstance(decision, Deny):
            detail = f" {decision.detail}" if decision.detail else ""
            yield Stage(name, False, decision.message + detail)
            return
        yield Stage(name, True, says(known))


def _request_says(known: Known) -> str:
    target = known.target
    assert target is not None
    return f"{target.method} {target.path} on {target.host} is in canonical form"


def _route_says(known: Known) -> str:
    assert known.route is not None
    return f"takes the route {known.route.name!r}"


def _authenticate_says(known: Known) -> str:
    assert known.subject is not None
    return f"is {known.subject.user!r} by {known.subject.authenticator!r}"


def _authorize_says(known: Known) -> str:
    may = f"may use the model {known.model!r}" if known.model else "meets every rule of the route"
    offer = known.route.preferences if known.route is not None else None
    wishes = known.wishes.told(offer) if offer is not None else ""
    return f"{may}; as it wishes, it {wishes}" if wishes else may


def _limits_say(known: Known) -> str:
    bound = known.bound
    says = describe(known.limits)
    if known.local:
        says = f"the store does not answer, so by the share of one replica (on_store_failure): {says}"
    if bound is None or not bound.input:
        return says
    guess = "" if bound.sure else ", as far as one can guess"
    says = f"{says}; may use {bound.input} tokens of input and {bound.output} of output{guess}"
    if known.admission == "fitted":
        says += ", unless the service knows how long answers are and limits this one (fitted)"
    elif known.admission == "learned":
        says += "; the service holds what answers are known to need, so quotas may be overrun (learned)"
    return says


_SAYS: dict[StageName, Callable[[Known], str]] = {
    "request": _request_says,
    "route": _route_says,
    "authenticate": _authenticate_says,
    "authorize": _authorize_says,
    "limits": _limits_say,
}


def _request(question: Question) -> Request:
    body = question.body
    if body is None:
        has_body = question.model is not None and question.method in ("POST", "PUT", "PATCH")
        body = json.dumps({"model": question.model}).encode() if has_body else b""
    headers = dict(question.headers)
    if body:
        headers.setdefault("content-type", "application/json")
    target = question.path
    if question.key is not None:
        target = _present(question, question.key, headers)
    return Request(
        gateway=_ASKING,
        request_id="check",
        method=question.method,
        target=target,
        host=question.host,
        scheme="https",
        headers=headers,
        body=body,
        body_state=BodyState.WHOLE if body else BodyState.NONE,
        ip=question.ip,
        certificate=question.certificate,
        can_edit=True,
    )


def _present(question: Question, key: str, headers: dict[str, str]) -> str:
    """Put the credential where it belongs; the target with it."""
    name = question.key_in.name
    if question.user is not None:
        pair = f"{question.user}:{key}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    elif question.key_in.kind == "query":
        mark = "&" if "?" in question.path else "?"
        return f"{question.path}{mark}{quote_plus(name)}={quote_plus(key)}"
    elif question.key_in.kind == "cookie":
        headers["cookie"] = f"{name}={key}"
    else:
        headers[name] = f"Bearer {key}" if question.key_in == AUTHORIZATION else key
    return question.path
