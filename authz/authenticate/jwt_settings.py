"""How one identity provider's tokens are judged."""

import re
from dataclasses import dataclass, field
from typing import Final

from authz.authenticate.algorithms import ALGORITHMS, UnusableKey, primitives, secret_keys
from authz.authenticate.presented import AUTHORIZATION, Slot
from authz.authenticate.urls import fault_of_url

_TOKEN: Final = re.compile(r"[a-z0-9-]+", re.ASCII)
_RESERVED: Final = frozenset(
    {"authorization", "connection", "content-encoding", "content-length", "content-type", "cookie", "expect"}
    | {
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
    | {"via", "x-api-key", "x-real-ip", "x-request-id"}
)
_RESERVED_PREFIXES: Final = (
    "authz",
    "x-authz",
    "xauthz",
    "x-envoy-",
    "x-forwarded-",
)  # gateways obey or set these


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """One `type: jwt` entry of the config. Raises ValueError where it makes no sense; it says what would.

    Claims are named by dotted path; of several, the first that is there counts.
    One authenticator is one identity provider: all its issuers share the keys.
    """

    name: str
    algorithms: frozenset[str]  # what is accepted; never what the token says
    issuers: frozenset[str] = frozenset()  # any of these, compared as strings; empty: `iss` is not looked at
    audiences: frozenset[str] = (
        frozenset()
    )  # any of these; empty: a token that has `aud` is refused (RFC 7519 4.1.3)

    sign_key: bytes | None = field(default=None, repr=False)  # decoded; beats both URLs
    jwks_url: str | None = None  # beats discovery
    discovery: str | None = None  # the provider's address, without /.well-known/...
    refresh: int = 600  # seconds between fetches of the keys
    cooldown: int = 10  # seconds at least between two fetches, whatever tokens ask for

    token_from: tuple[Slot, ...] = (AUTHORIZATION,)
    leeway_ms: int = 60_000  # by which clocks may differ
    require_exp: bool = True

    user: tuple[str, ...] = ("sub",)  # the first that is a string or a whole number
    email: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()  # a string or a list; its first is the team
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("scope", "scp")
    models: tuple[str, ...] = ()
    claim_headers: tuple[tuple[str, str], ...] = ()  # (claim, upstream header in lower case)
    map_users: bool = False  # the user is one of our own table, not `name:user`

    def __post_init__(self) -> None:
        primitives()  # read now, beside the decisions, and not with the first token
        if not self.name or ":" in self.name or self.name == "network":
            raise ValueError(
                f"{self.name!r} cannot be the name of a JWT authenticator: it begins its users' names"
            )
        if not self.algorithms or not self.algorithms <= ALGORITHMS.keys():
            raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}")
        if not 0 <= self.leeway_ms <= 600_000:
            raise ValueError("leeway must be 0 to 10 minutes")
        if self.refresh < 1 or self.cooldown < 1:
            raise ValueError("refresh and cooldown must be at least 1 second")
        if not self.token_from or not self.user:
            raise ValueError("token_from and subject.user must name at least one place each")
        self._check_keys()
        for _, header in self.claim_headers:
            if not _TOKEN.fullmatch(header) or header in _RESERVED or header.startswith(_RESERVED_PREFIXES):
                raise ValueError(
                    f"{header!r} cannot be a claim header; use a name of your own such as x-is-admin"
                )
        if len({header for _, header in self.claim_headers}) < len(self.claim_headers):
            raise ValueError("two claims cannot share one header")

    def _check_keys(self) -> None:
        if self.sign_key is not None:
            try:
                secret_keys(self.sign_key, self.algorithms)
            except UnusableKey as error:
                raise ValueError(f"sign_key: {error}") from error
            return
        if any(ALGORITHMS[name].key_type == "oct" for name in self.algorithms):
            raise ValueError("HS256, HS384 and HS512 need a sign_key; published keys verify only the others")
        url = self.jwks_url or self.discovery
        if url is None:
            raise ValueError("one of sign_key, jwks_url and discovery is needed")
        if fault := fault_of_url(url):
            raise ValueError(f"{url!r} {fault}")
        if self.jwks_url is None and not self.issuers:
            raise ValueError("discovery needs issuers: the provider's own issuer must be one of them")
