"""No credential tells callers apart: its value would be in counters, refusals and logs (invariant 11)."""

from collections.abc import Iterator

from authz.config.authenticators import ApiKeyAuthenticator, JwtAuthenticator
from authz.config.credentials import SharedSecretAuthenticator
from authz.config.findings import Finding
from authz.config.model import Config

_ALWAYS = frozenset(
    {"header:authorization", "header:proxy-authorization", "header:x-api-key", "header:cookie"}
)


def counted_credentials(config: Config) -> Iterator[Finding]:
    """Partition keys that are a slot where some authenticator looks for a credential."""
    slots = _ALWAYS | set(_slots(config))
    for name, limit in config.limits.items():
        for index, dimension in enumerate(limit.partition_by):
            if dimension in slots:
                message = f"{dimension} carries a credential, and that is never counted by; use key or user"
                yield Finding(("limits", name, "partition_by", index), message)


def _slots(config: Config) -> Iterator[str]:
    for entry in config.authenticators.values():
        if isinstance(entry, ApiKeyAuthenticator | SharedSecretAuthenticator):
            yield from (f"header:{header}" for header in entry.headers or ())
            yield from (f"query:{name}" for name in entry.query or ())
        elif isinstance(entry, JwtAuthenticator):
            yield from (f"{source.kind}:{source.name}" for source in entry.token_from)
