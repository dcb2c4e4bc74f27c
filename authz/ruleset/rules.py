"""From the configuration to the rules that `decide` goes by: compiled once, nothing looked up later."""

from authz.catalog import Catalog
from authz.config.load import Loaded
from authz.config.models import BackendEntry, ModelEntry
from authz.limit.admission import Reckoning
from authz.limit.tokenizer import read_tokenizer
from authz.route import Finder
from authz.rules import Rules
from authz.ruleset.authenticators import Authenticators
from authz.ruleset.policies import policy_of
from authz.ruleset.routes import offer_of, route_of
from authz.store.protocols import Directory
from authz.store.records import Access, Model, Price
from authz.upstream import Backend, Credential


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
        route_of(entry, authenticators, policies, offers[entry.name], sorted(ours), by_model)
        for entry in config.routes
    )
    return Rules(
        digest=loaded.digest,
        routes=routes,
        find=Finder(routes),
        catalog=Catalog({name: _model_of(name, entry) for name, entry in config.models.items()}, directory),
        backends=tuple(backends.values()),
        rate_headers=config.rate_headers == "always",
        reckonings={
            name: Reckoning(entry.admission, read_tokenizer(entry.tokenizer) if entry.tokenizer else None)
            for name, entry in config.models.items()
            if entry.admission is not None or entry.tokenizer is not None
        },
    )


def _model_of(name: str, entry: ModelEntry) -> Model:
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
