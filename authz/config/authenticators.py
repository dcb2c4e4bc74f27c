"""`authenticators:` the ways in which a caller can show who it is."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from authz.config.amounts import Milliseconds
from authz.config.base import ONE_KEY, Section, Wrong, shorten, spell
from authz.config.credentials import (
    AnonymousAuthenticator,
    BasicAuthenticator,
    CertificateAuthenticator,
    SharedSecretAuthenticator,
)
from authz.config.http import Header, UpstreamHeader
from authz.config.network import Network, Url
from authz.config.secret import Secret
from authz.config.words import Claim, Flag, Some, Word

SYMMETRIC = ("HS256", "HS384", "HS512")
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
AlgorithmName = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]
LONGEST_LEEWAY_MS = 600_000


class ActFor(Section):
    """A key that may name the user it acts for (Open WebUI)."""

    header: UpstreamHeader
    """The header that names the user. Without the role it is ignored; it never goes upstream."""

    role: Word
    """The role that the key must hold."""


class ApiKeyAuthenticator(Section):
    """Keys that authz itself made or imported."""

    type: Literal["api_key"]
    """Keys of authz's own store."""

    headers: Some[Header] = ("authorization", "x-api-key")
    """Headers that may hold the key; `authorization` drops `Bearer `."""

    query: Some[Word] | None = None
    """Query parameters that may hold the key. They are removed from what goes upstream."""

    act_for: ActFor | None = None
    """Lets keys with a role speak for a user."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        act_for, headers = data.get("act_for"), data.get("headers", ("authorization", "x-api-key"))
        header = act_for.get("header") if isinstance(act_for, dict) else None
        if isinstance(header, str) and header.lower() in [str(each).lower() for each in headers or ()]:
            yield Wrong(f"the header {shorten(header)} already holds the key", at=("act_for", "header"))


class TokenFrom(Section):
    """One place where a token may be: exactly one of the three."""

    model_config = ConfigDict(json_schema_extra=ONE_KEY)

    header: Header | None = None
    """A header; `authorization` drops `Bearer `."""

    query: Word | None = None
    """A query parameter. It is removed from what goes upstream."""

    cookie: Word | None = None
    """A cookie. It is removed from what goes upstream."""

    @property
    def kind(self) -> Literal["header", "query", "cookie"]:
        return "header" if self.header is not None else "query" if self.query is not None else "cookie"

    @property
    def name(self) -> str:
        return self.header or self.query or self.cookie or ""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if len(data) != 1:
            yield Wrong("each entry names one place: {header: NAME}, {query: NAME} or {cookie: NAME}")


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Claims = Annotated[
    Some[Claim],
    BeforeValidator(_one_or_more, json_schema_input_type=Some[Claim] | Claim),
]
"""One claim or several in order of preference; nested ones are joined by dots."""


class SubjectClaims(Section):
    """Which claims say what of the caller. A claim that is missing from a token says nothing."""

    user: Claims = ("sub",)
    """The first of these that is text or a number is the user."""

    email: Claims | None = None
    """The user's mail address."""

    teams: Claims | None = None
    """The teams, as text or a list; the first is the caller's team."""

    roles: Claims | None = None
    """The roles."""

    scopes: Claims = ("scope", "scp")
    """The scopes: a list, or text with spaces between (RFC 8693 4.2)."""

    models: Claims | None = None
    """The models that the caller may use. No list anywhere refuses."""


class JwtAuthenticator(Section):
    """Signed tokens of one identity provider (RFC 7519)."""

    type: Literal["jwt"]
    """JSON Web Tokens."""

    issuers: Some[Word] | None = None
    """Accepted `iss`, compared as text. Left out: not looked at."""

    audiences: Some[Word] | None = None
    """Accepted `aud`; one of them is enough. Left out: a token that has `aud` is refused (RFC 7519 4.1.3)."""

    algorithms: Some[AlgorithmName]
    """Accepted signature algorithms. The token's header never adds to them."""

    discovery: Url | None = None
    """Base URL of the provider's `/.well-known/openid-configuration`."""

    jwks_url: Url | None = None
    """URL of the provider's keys."""

    sign_key: Secret | None = None
    """Shared key in base64, for HS256, HS384 and HS512."""

    token_from: Some[TokenFrom] = (TokenFrom(header="authorization"),)
    """Where the token may be, tried in order until one verifies."""

    subject: SubjectClaims = SubjectClaims()
    """Which claims say what of the caller."""

    claim_headers: Mapping[Claim, UpstreamHeader] = {}
    """Claims that go upstream as headers."""

    leeway: Milliseconds = 60_000
    """How far the clocks may differ."""

    map_users: Flag = False
    """Whether the token's user is authz's own user of that name. Else it is kept apart as `NAME:user`."""

    def signing_key(self) -> bytes:
        """The decoded `sign_key`. Raises SecretMissing."""
        if self.sign_key is None:
            raise LookupError("this authenticator has no sign_key")
        return _decode(self.sign_key.reveal())

    @field_validator("leeway")
    @classmethod
    def _short(cls, leeway: int) -> int:
        if leeway > LONGEST_LEEWAY_MS:
            raise Wrong("a leeway of more than 10m keeps expired tokens alive")
        return leeway

    @field_validator("sign_key")
    @classmethod
    def _long_enough(cls, key: Secret | None, info: ValidationInfo) -> Secret | None:
        """RFC 7518 3.2: at least as long as the hash."""
        if key is None or not key.present:
            return key
        try:
            length = len(_decode(key.reveal()))
        except ValueError:
            raise Wrong("the key is not base64; make one with `openssl rand -base64 32`") from None
        for algorithm in info.data.get("algorithms", ()):
            if algorithm in SYMMETRIC and length < int(algorithm[2:]) // 8:
                least = int(algorithm[2:]) // 8
                raise Wrong(f"the key has {length} bytes; {algorithm} needs at least {least} (RFC 7518 3.2)")
        return key

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        yield from _headers_apart(data.get("claim_headers"))
        sources = [key for key in ("discovery", "jwks_url", "sign_key") if key in data]
        if not sources:
            yield Wrong(
                "missing key `discovery`, `jwks_url` or `sign_key`: one of them is needed", on_key=True
            )
        if "sign_key" in sources:
            sources = ["sign_key"]  # it beats the others, and `warnings` says so
        for extra in sources[1:]:
            message = f"`{sources[0]}` already says where the signing keys are; leave out one of the two"
            yield Wrong(message, at=(extra,), on_key=True)
        if len(sources) != 1 or not isinstance(data.get("algorithms"), list):
            return
        fitting, others = (SYMMETRIC, ASYMMETRIC) if sources == ["sign_key"] else (ASYMMETRIC, SYMMETRIC)
        for index, algorithm in enumerate(data["algorithms"]):
            if algorithm in others:
                message = f"{algorithm} does not go with `{sources[0]}`; it takes {spell(fitting)}"
                yield Wrong(message, at=("algorithms", index))


class NetworkAuthenticator(Section):
    """An address that a proven gateway vouches for."""

    type: Literal["network"]
    """Client addresses."""

    allow: Some[Network]
    """Networks that callers may come from."""


AuthenticatorEntry = Annotated[
    ApiKeyAuthenticator
    | JwtAuthenticator
    | BasicAuthenticator
    | CertificateAuthenticator
    | NetworkAuthenticator
    | SharedSecretAuthenticator
    | AnonymousAuthenticator,
    Field(discriminator="type"),
]


def _headers_apart(headers: Any) -> Iterator[Wrong]:
    taken: dict[str, str] = {}
    for claim, header in headers.items() if isinstance(headers, dict) else ():
        first = taken.setdefault(header.lower(), claim) if isinstance(header, str) else claim
        if first != claim:
            yield Wrong(f"this header is already made from `{shorten(first)}`", at=("claim_headers", claim))


def _decode(text: str) -> bytes:
    """Base64 in either alphabet, with or without padding. Raises ValueError."""
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
