"""Names of the headers between authz and its gateways, for configurations that must spell each."""

CLIENT_HEADERS = (
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit-Requests",
    "X-RateLimit-Remaining-Requests",
    "X-RateLimit-Reset-Requests",
    "X-RateLimit-Limit-Tokens",
    "X-RateLimit-Remaining-Tokens",
    "X-RateLimit-Reset-Tokens",
    "X-Request-Id",
)
"""Of an allowance, for the client's response."""

IDENTITY_HEADERS = (
    "X-Authz-User",
    "X-Authz-Team",
    "X-Authz-Key",
    "X-Authz-Model",
    "X-Authz-Reservation",
    "X-Authz-Request-Id",
)
"""Of an allowance, for the model server; always set or removed."""

GATEWAY_HEADERS = (
    "X-Authz-Gateway-Token",
    "X-Authz-Backend",
    "X-Authz-Uri",
    "X-Authz-Remove",
    "X-Authz-Cookie",
)
"""Between authz and its gateway only."""

REFUSALS = (400, 401, 402, 403, 413, 415, 429, 503)
"""The statuses with which authz refuses."""

FORGEABLE_HEADERS = (
    "Forwarded",
    "X-Client-Cert",
    "X-Client-Verify",
    "X-Forwarded-Method",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Original-Content-Length",
    "X-Original-Method",
    "X-Original-Transfer-Encoding",
    "X-Original-URI",
    "X-Real-IP",
)
"""What a client may send to look like a gateway."""
