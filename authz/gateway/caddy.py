"""Caddy: the complete Caddyfile, and its parts for a Caddyfile that exists.

https://caddyserver.com/docs/caddyfile/directives/reverse_proxy#intercepting-responses
"""

from collections.abc import Mapping

from jinja2 import Environment

from authz.gateway.own_answers import (
    INVALID_METHOD,
    INVALID_PATH,
    INVALID_REQUEST,
    TOO_LARGE,
    UNAVAILABLE,
    UPSTREAM_AUTH_FAILED,
    UPSTREAM_UNAVAILABLE,
    OwnAnswer,
)
from authz.gateway.plain import require_plain
from authz.gateway.settings import Address, RenderSettings, UnusableSettings
from authz.gateway.version import is_older
from authz.gateway.wire import CLIENT_HEADERS, IDENTITY_HEADERS, REFUSALS

OLDEST = (2, 11)
"""The first Caddy whose `log_append` can take a field down before the response, which may break off."""

PARTS: Mapping[str, str] = {
    "all": "Caddyfile.j2",
    "log": "caddy-log.j2",
    "snippets": "caddy-snippets.j2",
    "site": "caddy-site.j2",
}
"""Name of each part, and its template."""

REMOVALS = 12
"""How many names of `X-Authz-Remove` the Caddyfile reads. It refuses a longer list."""

_NAME = "([^, ]+)"

_ERRORS: tuple[tuple[str, OwnAnswer], ...] = (
    ("vars {err.status_code} 413", TOO_LARGE),
    ("vars {err.status_code} 400", INVALID_PATH),
    ("vars {err.status_code} 405", INVALID_METHOD),  # longer than 32 characters
    ("vars {vars.authz_stage} allowed", UPSTREAM_UNAVAILABLE),
)

# Where it asks for client certificates, Caddy takes no `Host` but the name that TLS was opened with
# (strict_sni_host).
_MISDIRECTED = ("vars {err.status_code} 421", INVALID_REQUEST)


def render(settings: RenderSettings, environment: Environment, part: str = "all") -> str:
    """The text of one part. Raises UnusableSettings where Caddy cannot do what is asked."""
    require_plain(settings)
    if part not in PARTS:
        raise UnusableSettings(f"Caddy has no part {part!r}: choose one of {', '.join(PARTS)}")
    if part == "log" and settings.log is None:
        raise UnusableSettings(
            "authz takes no log: set `log` in the gateway's entry, for example 127.0.0.1:9004"
        )
    if is_older(settings.version, OLDEST):
        raise UnusableSettings(
            f"Caddy {settings.version} cannot keep a reservation in the log of a response that breaks off: "
            f"use Caddy {OLDEST[0]}.{OLDEST[1]} or later"
        )
    return environment.get_template(PARTS[part]).render(
        settings=settings,
        backends=settings.upstreams,
        token=_token(settings),
        binds=_binds,
        client_headers=CLIENT_HEADERS,
        upstream_headers=(
            "Authorization",
            *IDENTITY_HEADERS,
            "X-Request-Id",
            *map(canonical, settings.claim_headers),
        ),
        request_id_headers=[canonical(name) for name in settings.request_id_headers],
        refusals=REFUSALS,
        errors=(_MISDIRECTED, *_ERRORS) if settings.tls.client_ca is not None else _ERRORS,
        unavailable=UNAVAILABLE,
        upstream_auth_failed=UPSTREAM_AUTH_FAILED,
        removals=REMOVALS,
        numbers=range(1, REMOVALS + 1),
        removal_list=f"~^{_NAME}" + f"(?:, *{_NAME})?" * (REMOVALS - 1) + "$",
        ask_timeout=f"{settings.auth_timeout:g}s",
        connect_timeout=f"{settings.auth_timeout / 4:g}s",
    )


def canonical(header: str) -> str:
    """A header's name as Go writes it: Caddy's placeholders know no other spelling."""
    return "-".join(word.capitalize() for word in header.split("-"))


def _token(settings: RenderSettings) -> str | None:
    """A placeholder that Caddy fills in for each request."""
    if settings.token is None:
        return None
    return f"{{{settings.token.kind}.{settings.token.name}}}"


def _binds(address: Address) -> bool:
    """Whether the address is one of several: Caddy listens on all of them by itself."""
    return address.host not in ("0.0.0.0", "::")
