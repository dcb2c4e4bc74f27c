"""Mistakes in who is let in: what an authenticator alone cannot see."""

from collections.abc import Iterator

from authz.config.authenticators import ApiKeyAuthenticator, AuthenticatorEntry, JwtAuthenticator
from authz.config.credentials import AnonymousAuthenticator, BasicAuthenticator, SharedSecretAuthenticator
from authz.config.findings import Finding
from authz.config.model import Config
from authz.config.routes import RouteEntry
from authz.config.yaml_source import DataPath


def admissions(config: Config) -> Iterator[Finding]:
    """In no order."""
    if "network" in config.authenticators and config.authenticators["network"].type != "network":
        message = (
            "the users of `type: network` are named `network:`; another authenticator needs another name"
        )
        yield Finding(("authenticators", "network"), message, on="key")
    for index, route in enumerate(config.routes):
        yield from _anonymous(config, index, route)
        yield from _mixed_slots(config, index, route)


def _anonymous(config: Config, index: int, route: RouteEntry) -> Iterator[Finding]:
    """Whoever is let in without a credential is limited."""
    names = [name for name in route.authenticate.names if _is_anonymous(config.authenticators.get(name))]
    if not names:
        return
    if route.authenticate.all_of is not None:
        message = f"`{names[0]}` adds nothing to the others: whoever must show a credential is not anonymous"
        yield Finding(("routes", index, "authenticate", "all_of"), message, on="key")
    limits = [config.limits[name] for name in route.limits if name in config.limits]
    if any(limit.mode == "live" and limit.when is None for limit in limits):
        return
    missing = "; those here are on trial or apply only `when`" if route.limits else ""
    message = f"`{names[0]}` lets in whoever asks, so the route needs a limit that always applies{missing}"
    yield Finding(("routes", index, "authenticate"), message, on="key")


def _is_anonymous(entry: AuthenticatorEntry | None) -> bool:
    return isinstance(entry, AnonymousAuthenticator)


def _mixed_slots(config: Config, index: int, route: RouteEntry) -> Iterator[Finding]:
    """What others read there would count as wrong secrets."""
    path: DataPath = ("routes", index, "authenticate")
    for name in route.authenticate.names:
        entry = config.authenticators.get(name)
        if not isinstance(entry, SharedSecretAuthenticator):
            continue
        for other in route.authenticate.names:
            shared = sorted(_slots(entry) & _slots(config.authenticators.get(other)))
            if other != name and shared:
                message = f"`{name}` and `{other}` both read {shared[0]}; a shared secret needs its own place"
                yield Finding(path, message, on="key")


def _slots(entry: AuthenticatorEntry | None) -> set[str]:
    match entry:
        case ApiKeyAuthenticator() | SharedSecretAuthenticator():
            headers, query = entry.headers or (), entry.query or ()
            return {f"the header {each}" for each in headers} | {f"the query {each}" for each in query}
        case JwtAuthenticator():
            return {f"the {source.kind} {source.name}" for source in entry.token_from}
        case BasicAuthenticator():
            return {"the header authorization"}
    return set()
