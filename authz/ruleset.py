"""From the configuration to the rules that `decide` goes by: compiled once, nothing looked up later."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from authz.authenticate.act_for import ActFor
from authz.authenticate.anonymous import AnonymousAuthenticator
from authz.authenticate.api_key import ApiKeyAuthenticator
from authz.authenticate.basic import BasicAuthenticator
from authz.authenticate.combine import AllOf, AnyOf, challenge, credential_slots
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.network import NetworkAuthenticator
from authz.authenticate.passwords import Passwords
from authz.authenticate.presented import Slot
from authz.authenticate.protocol import Authenticator
from authz.authenticate.shared_secret import SharedSecretAuthenticator
from authz.authenticate.throttle import Throttle
from authz.authorize import HasRoles, HasScopes, ModelsAllowed, ModelsAny, ModelsListed, Rule
from authz.authorize.conditions import compile_condition
from authz.catalog import Catalog
from authz.config import authenticators as configured
from authz.config.credentials import AnonymousAuthenticator as AnonymousEntry
from authz.config.credentials import BasicAuthenticator as BasicEntry
from authz.config.credentials import CertificateAuthenticator as CertificateEntry
from authz.config.credentials import SharedSecretAuthenticator as SharedSecretEntry
from authz.config.limits import LimitEntry
from authz.config.load import Loaded
from authz.config.model import Config
from authz.config.models import BackendEntry, ModelEntry
from authz.config.routes import AuthorizeEntry, RouteEntry
from authz.limit.admission import Reckoning
from authz.limit.caps import Caps
from authz.limit.plan import Planners
from authz.limit.planner import Planner
from authz.limit.policy import Override, Policy, When
from authz.limit.tokenizer import read_tokenizer
from authz.passage import Passages
from authz.preference import Offer
from authz.quota import Algorithm, Quota, Unit, Window
from authz.route import Finder, Match, PathPattern, Route
from authz.rules import Rules
from authz.store.protocols import Clock, Directory
from authz.store.records import Access, Model, Price
from authz.upstream import CREDENTIAL_HEADERS, Backend, Credential

if TYPE_CHECKING:
    from authz.authenticate.jwt import JwtAuthenticator


class Authenticators:
    """The authenticators of one configuration, by name.

    One that a reload leaves as it was keeps living, with the keys it fetched and
    the tokens it verified.
    """

    def __init__(
        self,
        config: Config,
        directory: Directory,
        clock: Clock,
        before: "Authenticators | None" = None,
    ) -> None:
        self._jwt: dict[JwtSettings, JwtAuthenticator] = {}
        self._passwords: Passwords = before._passwords if before is not None else Passwords(clock)
        self._throttles: dict[str, Throttle] = {}
        self._by_name: dict[str, Authenticator] = {}
        for name, entry in config.authenticators.items():
            self._by_name[name] = self._build(name, entry, directory, clock, before)

    def _build(
        self,
        name: str,
        entry: configured.AuthenticatorEntry,
        directory: Directory,
        clock: Clock,
        before: "Authenticators | None",
    ) -> Authenticator:
        match entry:
            case configured.ApiKeyAuthenticator():
                act_for = entry.act_for
                return ApiKeyAuthenticator(
                    name,
                    _slots(entry.headers, entry.query),
                    directory,
                    clock,
                    act_for=ActFor(name, act_for.header, act_for.role, directory) if act_for else None,
                )
            case configured.JwtAuthenticator():
                from authz.authenticate.jwt import JwtAuthenticator  # brings an HTTP client

                settings = jwt_settings(name, entry)
                known = before._jwt.get(settings) if before is not None else None
                self._jwt[settings] = known or JwtAuthenticator(settings, directory, clock)
                return self._jwt[settings]
            case BasicEntry():
                users = entry.users()
                return BasicAuthenticator(name, users, directory, self._passwords, map_users=entry.map_users)
            case CertificateEntry():
                from authz.authenticate.certificate import CertificateAuthenticator  # brings `cryptography`

                return CertificateAuthenticator(
                    name, entry.subject_from, directory, clock, map_users=entry.map_users
                )
            case SharedSecretEntry():
                known_throttle = before._throttles.get(name) if before is not None else None
                self._throttles[name] = known_throttle or Throttle()
                digests = {holder: secret.digest for holder, secret in entry.secrets.items()}
                slots = _slots(entry.headers, entry.query)
                return SharedSecretAuthenticator(name, slots, digests, self._throttles[name], clock)
            case AnonymousEntry():
                return AnonymousAuthenticator(name, entry.user)
            case configured.NetworkAuthenticator():
                return NetworkAuthenticator(name, [str(network) for network in entry.allow])

    def __getitem__(self, name: str) -> Authenticator:
        return self._by_name[name]

    @property
    def asserted(self) -> frozenset[str]:
        """Upstream headers that only an authenticator may set: a client's own are removed on every route."""
        return frozenset[str]().union(*(one.asserts for one in self._by_name.values()))

    def start(self) -> None:
        """Begin to keep the published keys fresh. Needs a running loop; harmless when begun already."""
        for authenticator in self._jwt.values():
            authenticator.start()

    async def close(self, keep: "Authenticators | None" = None) -> None:
        """Stop those that `keep` does not use any more."""
        kept = set() if keep is None else {id(authenticator) for authenticator in keep._jwt.values()}
        for authenticator in self._jwt.values():
            if id(authenticator) not in kept:
                await authenticator.close()
        if keep is None or keep._passwords is not self._passwords:
            self._passwords.close()


def _slots(headers: Sequence[str] | None, query: Sequence[str] | None) -> list[Slot]:
    """Headers first."""
    return [Slot("header", name) for name in headers or ()] + [Slot("query", name) for name in query or ()]


def jwt_settings(name: str, entry: configured.JwtAuthenticator) -> JwtSettings:
    """How the tokens of one `type: jwt` entry are judged."""
    subject = entry.subject
    return JwtSettings(
        name=name,
        algorithms=frozenset(entry.algorithms),
        issuers=frozenset(entry.issuers or ()),
        audiences=frozenset(entry.audiences or ()),
        sign_key=entry.signing_key() if entry.sign_key is not None else None,
        jwks_url=entry.jwks_url,
        discovery=entry.discovery,
        token_from=tuple(Slot(source.kind, source.name) for source in entry.token_from),
        leeway_ms=entry.leeway,
        user=tuple(subject.user),
        email=tuple(subject.email or ()),
        teams=tuple(subject.teams or ()),
        roles=tuple(subject.roles or ()),
        scopes=tuple(subject.scopes),
        models=tuple(subject.models or ()),
        claim_headers=tuple(entry.claim_headers.items()),
        map_users=entry.map_users,
    )


def build_rules(loaded: Loaded, authenticators: Authenticators, directory: Directory) -> Rules:
    """The rules of a valid configuration."""
    config = loaded.config
    policies = {name: policy_of(name, entry) for name, entry in config.limits.items()}
    backends = {name: _backend(name, entry) for name, entry in config.backends.items()}
    offers = {entry.name: offer_of(entry, backends) for entry in config.routes}
    ours = {entry.header for entry in config.backends.values()}
    ours |= {name for offer in offers.values() if offer is not None for name in offer.headers}
    # Where none takes every model, only the model says which of several it is.
    by_model = len(backends) > 1 and all(backend.models is not None for backend in backends.values())
    routes = tuple(
        _route(entry, authenticators, policies, offers[entry.name], sorted(ours), by_model)
        for entry in config.routes
    )
    return Rules(
        digest=loaded.digest,
        routes=routes,
        find=Finder(routes),
        catalog=Catalog({name: model_of(name, entry) for name, entry in config.models.items()}, directory),
        backends=tuple(backends.values()),
        rate_headers=config.rate_headers == "always",
        reckonings={
            name: Reckoning(entry.admission, read_tokenizer(entry.tokenizer) if entry.tokenizer else None)
            for name, entry in config.models.items()
            if entry.admission is not None or entry.tokenizer is not None
        },
    )


def model_of(name: str, entry: ModelEntry) -> Model:
    access, price = entry.access, entry.price
    return Model(
        name=name,
        context=entry.context,
        max_output=entry.max_output,
        price=Price(input=price.input, cached_input=price.cached_input, output=price.output),
        access=Access(
            roles=frozenset((access.roles if access is not None else None) or ()),
            teams=frozenset((access.teams if access is not None else None) or ()),
        ),
    )


def _backend(name: str, entry: BackendEntry) -> Backend:
    credential = None
    if entry.bearer is not None and entry.bearer.present:  # the service requires it; a command may lack it
        key = entry.bearer.reveal()
        credential = Credential(entry.header, f"Bearer {key}" if entry.header == "authorization" else key)
    return Backend(
        name=name,
        models=None if entry.models == "any" else frozenset(entry.models),
        credential=credential,
    )


def policy_of(name: str, entry: LimitEntry) -> Policy:
    when = entry.when
    return Policy(
        name=name,
        quota=entry.value,
        partition_by=entry.partition_by,
        when=None
        if when is None
        else When(
            models=frozenset(when.models or ()),
            methods=frozenset(when.methods or ()),
            paths=frozenset(when.paths or ()),
            roles=frozenset(when.roles or ()),
            teams=frozenset(when.teams or ()),
            users=frozenset(when.users or ()),
            slots=tuple(
                (f"{kind}:{name}", None if value == "*" else value)
                for kind, wanted in (
                    ("header", when.headers),
                    ("query", when.query),
                    ("cookie", when.cookies),
                )
                for name, value in wanted.items()
            ),
            claims=tuple((name, None if value == "*" else value) for name, value in when.claims.items()),
            networks=tuple(when.ips or ()),
        ),
        overrides=tuple(Override(override.partition, override.quota) for override in entry.overrides),
        shadow=entry.mode == "shadow",
        shadow_amount=entry.shadow.quota if entry.shadow is not None else None,
        on_store_failure=entry.on_store_failure,
        allowance=entry.allowance or 0,
        refusal_status=entry.refusal.status if entry.refusal is not None else None,
        refusal_message=entry.refusal.message if entry.refusal is not None else None,
    )


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


def _route(
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
        planners=Planners([Planner(policy) for policy in limits]),
        needs_model=by_model
        or any(rule.needs_model for rule in rules)
        or any(policy.needs_model for policy in limits)
        or entry.caps is not None
        or (offer is not None and offer.needs_model),
        reads_body=match.api is not None,
        challenge=challenge(combined),
        authenticators=frozenset(names),
        remove=remove,
        passages=Passages(remove),
        credential_params=frozenset(slot.name for slot in slots if slot.kind == "query"),
        credential_cookies=frozenset(slot.name for slot in slots if slot.kind == "cookie"),
        include_usage=entry.include_usage,
        admission=entry.admission,
        caps=caps_of(entry),
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


def caps_of(entry: RouteEntry) -> Caps | None:
    caps = entry.caps
    if caps is None:
        return None
    return Caps(characters=caps.characters, tokens=caps.tokens, inputs=caps.inputs)
