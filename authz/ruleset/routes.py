"""Routes, with all that a request on one of them meets."""

from collections.abc import Iterable, Mapping, Sequence

from authz.authenticate.combine import AllOf, AnyOf, challenge, credential_slots
from authz.authenticate.protocol import Authenticator
from authz.authorize import HasRoles, HasScopes, ModelsAllowed, ModelsAny, ModelsListed, Rule
from authz.authorize.conditions import compile_condition
from authz.config.routes import AuthorizeEntry, RouteEntry
from authz.course import Courses
from authz.limit.caps import Caps
from authz.limit.plan import Planners
from authz.limit.planner import Planner
from authz.limit.policy import Policy
from authz.preference import Offer
from authz.quota import Algorithm, Quota, Unit, Window
from authz.route import Match, PathPattern, Route
from authz.ruleset.authenticators import Authenticators
from authz.upstream import CREDENTIAL_HEADERS, Backend


def _rules_of(entries: Iterable[AuthorizeEntry]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for entry in entries:
        if entry.models == "allowed":
            rules.append(ModelsAllowed())
        elif entry.models == "any":
            rules.append(ModelsAny())
        elif entry.models is not None:
            rules.append(ModelsListed(frozenset(entry.models)))
        if entry.scopes is not None:
            rules.append(HasScopes(frozenset(entry.scopes)))
        if entry.roles is not None:
            rules.append(HasRoles(frozenset(entry.roles)))
        if entry.when is not None:
            rules.append(compile_condition(entry.when))
    return tuple(rules)


def route_of(
    entry: RouteEntry,
    authenticators: Authenticators,
    policies: Mapping[str, Policy],
    offer: Offer | None,
    ours: Sequence[str],
    by_model: bool,
) -> Route:
    """`ours`: headers that no client's request takes upstream, whatever its route."""
    match, names = entry.match, entry.authenticate.names
    chosen: Sequence[Authenticator] = [authenticators[name] for name in names]
    combined = AnyOf(chosen) if entry.authenticate.any_of is not None else AllOf(chosen)
    slots = credential_slots(combined)
    rules = _rules_of(entry.authorize)
    limits = tuple(policies[name] for name in entry.limits)
    headers = [slot.name for slot in slots if slot.kind == "header"]
    remove = tuple(dict.fromkeys([*CREDENTIAL_HEADERS, *headers, *sorted(authenticators.asserted), *ours]))
    return Route(
        name=entry.name,
        match=Match(
            methods=frozenset(match.methods or ()),
            paths=tuple(PathPattern.parse(path) for path in match.paths or ()),
            families=tuple(match.api or ()),
            hosts=frozenset(match.hosts or ()),
            headers=tuple((name, None if value == "*" else value) for name, value in match.headers.items()),
        ),
        authenticate=combined,
        authorize=rules,
        courses=Courses(Planners([Planner(policy) for policy in limits]), remove),
        needs_model=by_model
        or any(rule.needs_model for rule in rules)
        or any(policy.needs_model for policy in limits)
        or entry.caps is not None
        or (offer is not None and offer.needs_model),
        reads_body=match.api is not None,
        challenge=challenge(combined),
        authenticators=frozenset(names),
        remove=remove,
        credential_params=frozenset(slot.name for slot in slots if slot.kind == "query"),
        credential_cookies=frozenset(slot.name for slot in slots if slot.kind == "cookie"),
        include_usage=entry.include_usage,
        admission=entry.admission,
        caps=_caps_of(entry),
        preferences=offer,
        request_id_header=entry.request_id.header if entry.request_id is not None else None,
    )


def offer_of(entry: RouteEntry, backends: Mapping[str, Backend]) -> Offer | None:
    """What the clients of a route may wish."""
    wished = entry.preferences
    if wished is None:
        return None
    most = wished.max_concurrent_requests
    concurrency = None
    if most is not None:
        quota = Quota(unit=Unit.CONCURRENCY, amount=most, window=Window(algorithm=Algorithm.CONCURRENCY))
        name = f"{entry.name}:max_concurrent_requests"  # no limit of the file is called so
        concurrency = Planner(Policy(name=name, quota=quota, partition_by=("key",)))
    return Offer(
        header=wished.header,
        model_header=wished.model_header,
        target_header=wished.target_header,
        most_timeout_ms=wished.timeout,
        most_retries=wished.max_retries,
        least_hedge_ms=wished.hedge_delay,
        most_concurrent=most,
        concurrency=concurrency,
        targets={url: backends[name] for url, name in (wished.targets or {}).items()},
        ignored=frozenset(wished.ignored or ()),
    )


def _caps_of(entry: RouteEntry) -> Caps | None:
    caps = entry.caps
    if caps is None:
        return None
    return Caps(characters=caps.characters, tokens=caps.tokens, inputs=caps.inputs)
