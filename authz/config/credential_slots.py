"""No credential tells callers apart or says anything else: its value would be in logs (invariant 11)."""

from collections.abc import Iterator

from authz.config.authenticators import ApiKeyAuthenticator, JwtAuthenticator
from authz.config.credentials import SharedSecretAuthenticator
from authz.config.findings import Finding
from authz.config.model import Config

_ALWAYS = frozenset(
    {"header:authorization", "header:proxy-authorization", "header:x-api-key", "header:cookie"}
)


def counted_credentials(config: Config) -> Iterator[Finding]:
    """Places that are a slot where some authenticator looks for a credential."""
    slots = _ALWAYS | set(_slots(config))
    for name, limit in config.limits.items():
        for index, dimension in enumerate(limit.partition_by):
            if dimension in slots:
                message = f"{dimension} carries a credential, and that is never counted by; use key or user"
                yield Finding(("limits", name, "partition_by", index), message)
        for part, kind in (("headers", "header"), ("query", "query"), ("cookies", "cookie")):
            for wanted in getattr(limit.when, part) if limit.when is not None else ():
                if f"{kind}:{wanted}" in slots:
                    message = f"{kind}:{wanted} carries a credential, and no limit goes by that; use users"
                    yield Finding(("limits", name, "when", part, wanted), message, on="key")
    for route_index, route in enumerate(config.routes):
        named = route.preferences
        for key in ("header", "model_header", "target_header"):
            header = getattr(named, key, None)
            if f"header:{header}" in slots:
                message = f"the header {header} carries a credential; choose another"
                yield Finding(("routes", route_index, "preferences", key), message)
        if route.request_id is not None and f"header:{route.request_id.header}" in slots:
            message = f"the header {route.request_id.header} carries a credential; choose another"
            yield Finding(("routes", route_index, "request_id", "header"), message)


def _slots(config: Config) -> Iterator[str]:
    for entry in config.authenticators.values():
        if isinstance(entry, ApiKeyAuthenticator | SharedSecretAuthenticator):
            yield from (f"header:{header}" for header in entry.headers or ())
            yield from (f"query:{name}" for name in entry.query or ())
        elif isinstance(entry, JwtAuthenticator):
            yield from (f"{source.kind}:{source.name}" for source in entry.token_from)
