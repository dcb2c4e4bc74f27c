"""A signed token in compact form (RFC 7515 7.1), split and checked before any of it is believed."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

from authz.authenticate.protocol import Refused
from authz.authenticate.strict_json import Malformed, read_object
from authz.reason import Reason

LONGEST_TOKEN = 16_384  # characters
LONGEST_HEADER = 4_096
LONGEST_KID = 256

# Kinds of token that an issuer signs with the same keys but that grant nothing (logout, DPoP...) carry their
# own `typ` (RFC 8725 3.11): only these are access or identity tokens.
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})

NOT_A_TOKEN = Refused(Reason.TOKEN_INVALID, "The credential is not a JSON Web Token.", foreign=True)


@dataclass(frozen=True, slots=True)
class Compact:
    """The parts of a token. `algorithm` and `kid` are claims of whoever made it, nothing more.

    A token is a credential: no repr shows its parts (rich passes by a Struct's own `__repr__`).
    """

    algorithm: str
    kid: str | None
    signed: bytes = field(repr=False)  # what the signature is over
    signature: bytes = field(repr=False)
    payload: bytes = field(repr=False)


def looks_like_token(credential: str) -> bool:
    """Whether it begins as base64url of a JSON object does. For choosing what to tell, never for trust."""
    return credential.startswith("ey")


def split(token: str) -> Compact | Refused:
    """The parts of a token, or why they cannot be had.

    Keys and addresses of keys in the header (`jwk`, `jku`, `x5u`, `x5c`) are
    never looked at (attack 49); any `crit` is refused, for we understand none.
    """
    if not looks_like_token(token):
        return NOT_A_TOKEN
    if len(token) > LONGEST_TOKEN:
        return _invalid(f"The token is longer than {LONGEST_TOKEN} characters.")
    if token.count(".") == 4:
        return _invalid("Encrypted tokens (JWE) are not accepted.")
    if token.count(".") != 2:
        return _invalid("The token does not have three parts.")
    head, body, tail = token.split(".")
    if len(head) > LONGEST_HEADER:
        return _invalid("The token's header is too long.")
    try:
        header = read_object(decode(head))
        payload, signature = decode(body), decode(tail)
    except Malformed as malformed:
        return _invalid(f"A part of the token {malformed}.")
    if not signature:
        return _invalid("The token is not signed.")
    fault = _header_fault(header)
    if fault:
        return _invalid(f"The token's header {fault}.")
    signed = token[: len(token) - len(tail) - 1].encode("ascii")
    return Compact(header["alg"], header.get("kid"), signed, signature, payload)


def decode(part: str) -> bytes:
    """Base64url by RFC 7515: no padding, stray character or unused bit (attack 53). Raises Malformed."""
    try:
        decoded = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise Malformed("is not base64url") from error
    if urlsafe_b64encode(decoded).decode("ascii").rstrip("=") != part:
        raise Malformed("is not base64url")
    return decoded


def _header_fault(header: dict[str, Any]) -> str | None:
    if not isinstance(header.get("alg"), str):
        return "names no algorithm"
    kid = header.get("kid", "")
    if not isinstance(kid, str) or len(kid) > LONGEST_KID:
        return "has a key id that is not a short string"
    if "crit" in header or "b64" in header:
        return "asks for an extension that is not understood"
    if "enc" in header or "zip" in header:
        return "belongs to an encrypted token"
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        return "has a `typ` that is not that of an access token"
    return None


def _invalid(detail: str) -> Refused:
    return Refused(Reason.TOKEN_INVALID, detail)
