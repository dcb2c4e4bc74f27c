"""What the TitanML Takeoff documentation says: its key, its token, and its Caddyfile in authz's words."""

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

SIGN_KEY = "TkZMNSowQmMjOVU2RUB0bm1DJkU3U1VONkd3SGZMbVk="
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjk5NTU4OTI2NzAsImp0aSI6IjgyMjk0YTYzLTk2NjAtNGM2Mi1hOGE4LTVhNjI2"
    "NWVmY2Q0ZSIsInN1YiI6IjM0MDYzMjc5NjM1MTY5MzIiLCJpc3MiOiJodHRwczovL2FwaS5leGFtcGxlLmNvbSIsImF1ZCI6WyJodHRwczovL2"
    "FwaS5leGFtcGxlLmlvIl0sInVzZXJuYW1lIjoiZ2dpY2NpIn0.O8kvRO9y6xQO3AymqdFE7DDqLRBQhkntf78O9kF71F8"
)

# The `jwtauth` block. sign_key beats the address of the key set, as in caddy-jwt.
JWTAUTH = f"""\
  jwtauth:
    type: jwt
    sign_key: {SIGN_KEY}
    algorithms: [HS256]
    jwks_url: https://api.example.com/jwk/keys
    token_from: [{{query: access_token}}, {{query: token}}, {{header: X-Api-Token}}, {{cookie: user_session}}, {{header: authorization}}]
    issuers: [https://api.example.com]
    audiences: [https://api.example.io, https://learn.example.com]
    subject: {{user: [aud, uid, user_id, username, login], roles: [roles]}}
    claim_headers: {{IsAdmin: x-is-admin, settings.payout.paypal.enabled: x-is-paypal-enabled}}
    map_users: true
"""


def b64(data: bytes) -> str:
    """As tokens have it (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """What is signed of a token."""
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"


def signed(claims: dict[str, Any], *, algorithm: str = "HS256", key: bytes | None = None) -> str:
    """A token signed with the document's key, or another, by HMAC-SHA-256 whatever it says of itself."""
    text = unsigned({"alg": algorithm, "typ": "JWT"}, claims)
    mac = hmac.new(key or base64.b64decode(SIGN_KEY), text.encode(), sha256).digest()
    return f"{text}.{b64(mac)}"


def claims(**changes: Any) -> dict[str, Any]:
    """The document's claims, changed; None takes one away."""
    padded = TOKEN.split(".")[1]
    own: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)))
    return {name: value for name, value in {**own, **changes}.items() if value is not None}


def one_bit_changed(part: int) -> str:
    """The document's token with the lowest bit of one part's middle byte turned."""
    parts = TOKEN.split(".")
    data = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    data[len(data) // 2] ^= 1
    parts[part] = b64(bytes(data))
    return ".".join(parts)
