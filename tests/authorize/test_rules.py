"""Authorization: all rules must agree, and nothing is open by default."""

import pytest
from msgspec.structs import replace

from authz.authorize import (
    Asked,
    HasRoles,
    HasScopes,
    ModelsAllowed,
    ModelsAny,
    ModelsListed,
    Rule,
    authorize,
)
from authz.authorize.conditions import compile_condition
from authz.canonical import Target
from authz.catalog import Catalog
from authz.peek import Peek
from authz.reason import Reason
from authz.request import Gateway, GatewayKind, Request
from authz.store.records import Access, Model
from authz.subject import Subject


class NoRecords:
    """A directory with nothing in it but models added at run time."""

    def __init__(self, *models: Model) -> None:
        self._models = {model.name: model for model in models}

    def models(self) -> dict[str, Model]:
        return self._models


SMALL = Model(name="small")
SENIOR = Model(name="big", access=Access(roles=frozenset({"senior"})))
TEAM = Model(name="vision", access=Access(teams=frozenset({"vision"})))
ADDED = Model(name="added")
CATALOG = Catalog({m.name: m for m in (SMALL, SENIOR, TEAM)}, NoRecords(ADDED))  # type: ignore[arg-type]
REQUEST = Request(
    gateway=Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True),
    request_id="r", method="POST", target="/v1/chat/completions", host="llm.test", scheme="https",
    headers={"x-tier": "gold"}, ip="10.1.2.3",
)  # fmt: skip
TARGET = Target("POST", "llm.test", "/v1/chat/completions", "tier=gold&empty=")
NOW = 1_790_000_000_000  # Monday, 2026-09-21 14:13:20 UTC


def asked(subject: Subject, model: str | None, *, catalog: Catalog = CATALOG, listing: bool = False) -> Asked:
    known = catalog.get(model) if model else None
    return Asked(REQUEST, TARGET, subject, Peek(model=model), model, known, catalog, listing, NOW)


def who(**fields: object) -> Subject:
    return Subject(user="bob", authenticator="keys", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subject", "model", "reason"),
    [
        (who(inherits_models=True), "small", None),
        (who(inherits_models=True), "added", None),
        (who(inherits_models=True), "big", Reason.MODEL_NOT_ALLOWED),
        (who(inherits_models=True, roles=frozenset({"senior"})), "big", None),
        (who(inherits_models=True), "vision", Reason.MODEL_NOT_ALLOWED),
        (who(inherits_models=True, team="vision"), "vision", None),
        (who(inherits_models=True), "ghost", Reason.MODEL_UNKNOWN),
        (who(inherits_models=True), None, Reason.MODEL_REQUIRED),
        (who(), "small", Reason.MODEL_NOT_ALLOWED),
        (who(models=frozenset()), "small", Reason.MODEL_NOT_ALLOWED),
        (who(models=frozenset({"big"})), "big", None),
        (who(models=frozenset({"big"}), inherits_models=True), "small", Reason.MODEL_NOT_ALLOWED),
        (who(models=frozenset({"ghost"})), "ghost", Reason.MODEL_UNKNOWN),
        (who(inherits_models=True), "SMALL", Reason.MODEL_UNKNOWN),
    ],
)
def test_models_allowed(subject: Subject, model: str | None, reason: Reason | None) -> None:
    refusal = ModelsAllowed().refuses(asked(subject, model))
    assert (refusal.reason if refusal else None) is reason


def test_models_listed() -> None:
    rule = ModelsListed(frozenset({"small", "ghost"}))
    assert rule.refuses(asked(who(), "small")) is None
    assert rule.refuses(asked(who(), "big")).reason is Reason.MODEL_NOT_ALLOWED
    assert rule.refuses(asked(who(), "ghost")).reason is Reason.MODEL_UNKNOWN
    assert rule.refuses(asked(who(), None)).reason is Reason.MODEL_REQUIRED


def test_models_any_still_refuses_what_does_not_exist() -> None:
    empty = Catalog({}, NoRecords())  # type: ignore[arg-type]
    assert ModelsAny().refuses(asked(who(), "small")) is None
    assert ModelsAny().refuses(asked(who(), None)) is None
    assert ModelsAny().refuses(asked(who(), "ghost")).reason is Reason.MODEL_UNKNOWN
    assert ModelsAny().refuses(asked(who(), "ghost", catalog=empty)) is None


def test_a_listing_names_no_model() -> None:
    assert ModelsAllowed().refuses(asked(who(), None, listing=True)) is None


def test_unknown_and_forbidden_models_look_the_same_to_a_caller() -> None:
    unknown = ModelsAllowed().refuses(asked(who(inherits_models=True), "ghost"))
    forbidden = ModelsAllowed().refuses(asked(who(inherits_models=True), "big"))
    assert unknown.message.replace("ghost", "big") == forbidden.message


def test_no_rule_refuses() -> None:
    assert authorize((), asked(who(), None)).reason is Reason.NOT_AUTHORIZED


def test_all_rules_must_agree() -> None:
    rules: list[Rule] = [ModelsAny(), HasRoles(frozenset({"a", "b"})), HasScopes(frozenset({"x", "y"}))]
    full = who(roles=frozenset({"b"}), scopes=frozenset({"x", "y", "z"}))
    assert authorize(rules, asked(full, None)) is None
    assert authorize(rules, asked(who(scopes=frozenset({"x", "y"})), None)).reason is Reason.NOT_AUTHORIZED
    assert (
        "scope y"
        in authorize(rules, asked(who(roles=frozenset({"b"}), scopes=frozenset({"x"})), None)).message
    )


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("'ml' in subject.roles || subject.team == 'research'", True),
        ("subject.team == 'vision'", False),
        ("request.method == 'POST' && request.path.startsWith('/v1/')", True),
        ("request.headers['x-tier'] == 'gold'", True),
        ("request.headers['x-none'] == 'gold'", False),
        ("claims.org.plan == 'pro'", True),
        ("claims.missing.plan == 'pro'", False),
        ("model == 'small'", True),
        ("ip.startsWith('10.')", True),
        ("in_network(ip, '10.0.0.0/8') && !in_network(ip, '192.0.2.0/24')", True),
        ("in_network(ip, '10.1.2.4')", False),
        ("in_network(ip, request.path)", False),
        ("request.query.tier == 'gold' && request.query.empty == ''", True),
        ("request.query.none == 'gold'", False),
        ("'x-none' in request.headers && request.headers['x-none'] == 'gold'", False),
        ("request.scheme == 'https' && request.host == 'llm.test' && request.gateway == 'edge'", True),
        ("!request.stream && request.max_tokens == 0 && request.size == 0", True),
        ("now.getHours('Europe/Helsinki') == 17 && now.getDayOfWeek() == 1", True),
        ("now < timestamp('2026-01-01T00:00:00Z')", False),
        ("subject.roles.exists(role, role.startsWith('d'))", True),
        ("subject.scopes.all(scope, scope == 'x')", True),
        ("subject . team == 'research'", True),
        ("claims.numbers.map(n, n + 1) == [2, 3]", True),
        ("claims.numbers + 1 == 2", False),
        ("claims.flag", True),
        ("claims.org", False),
    ],
)
def test_conditions(condition: str, met: bool) -> None:
    subject = who(
        roles=frozenset({"dev"}),
        team="research",
        claims={"org": {"plan": "pro"}, "numbers": [1, 2], "flag": True},
    )
    refusal = compile_condition(condition).refuses(asked(subject, "small"))
    assert (refusal is None) is met


@pytest.mark.parametrize("query", ["tier=gold&tier=free", "tier=free&tier=gold", "tier=gold&ti%65r=gold"])
@pytest.mark.parametrize(
    "condition", ["request.query.tier == 'gold'", "request.query.tier != 'free'", "!has(request.query.trial)"]
)
def test_no_condition_takes_one_of_two_parameters(condition: str, query: str) -> None:
    """The model server may take the other."""
    rule = compile_condition(condition)
    once, twice = (replace(asked(who(), None), target=replace(TARGET, query=q)) for q in ("tier=gold", query))
    assert rule.refuses(once) is None
    assert rule.refuses(twice).reason is Reason.NOT_AUTHORIZED
    assert "came twice" in rule.refuses(twice).detail


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("subject.roles ==", "does not parse"),
        ("user.name == 'x'", "uses user.name, which does not exist"),
        ("", "does not parse"),
        ("subject.role == 'x'", "uses subject.role,"),
        ("foo(ip)", "uses foo,"),
        ("in_network(ip)", "uses in_network"),
        ("in_network(ip, '10.0.0.0/33')", "is not a network"),
        ("request.path == 1", "no matching overload"),
        ("subject.roles == 'admin'", "no matching overload"),
        ("request.max_tokens > '5'", "no matching overload"),
        ("now > 5", "no matching overload"),
        ("'text'", "gives string, not true or false"),
        ("1", "gives int, not"),
        ("subject.roles", "gives list"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused_at_load(condition: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compile_condition(condition)


@pytest.mark.parametrize(
    "rule", [ModelsAny(), ModelsListed(frozenset({"small", "big"}))], ids=["any", "listed"]
)
def test_a_list_of_the_callers_own_narrows_every_route(rule: Rule) -> None:
    narrow = who(models=frozenset({"small"}))
    assert rule.refuses(asked(narrow, "small")) is None
    assert rule.refuses(asked(narrow, "big")).reason is Reason.MODEL_NOT_ALLOWED
    assert rule.refuses(asked(who(models=frozenset()), "small")).reason is Reason.MODEL_NOT_ALLOWED
    assert rule.refuses(asked(who(), "big")) is None
