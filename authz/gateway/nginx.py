"""nginx: the complete configuration, its parts for an nginx that exists, and the variant without njs.

https://nginx.org/en/docs/njs/ · https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment

from authz.gateway.own_answers import ALL, UNAVAILABLE
from authz.gateway.plain import require_plain
from authz.gateway.settings import SYSTEM_AUTHORITIES, RenderSettings, UnusableSettings, Upstream
from authz.gateway.version import is_older
from authz.gateway.wire import CLIENT_HEADERS, FORGEABLE_HEADERS, GATEWAY_HEADERS, IDENTITY_HEADERS, REFUSALS

OLDEST = (1, 31)
"""The first nginx whose njs has `js_access`. The part `auth-request` needs none of it."""

PARTS: Mapping[str, str] = {
    "all": "nginx.conf.j2",
    "http": "nginx-http.conf.j2",
    "server": "nginx-server.conf.j2",
    "js": "nginx-authz.js",
    "js-usage": "nginx-authz-usage.js",
    "auth-request": "nginx-auth-request.conf.j2",
}
"""Name of each part, and its template."""

TOKEN_INCLUDE = "/etc/authz/gateway-token.conf"  # noqa: S105  (a file's name)


@dataclass(frozen=True, slots=True)
class Backend:
    """A model server in nginx's terms: an `upstream` block and its URL."""

    name: str
    group: str
    url: str
    host: str
    address: str
    tls: bool
    models: tuple[str, ...]


def render(settings: RenderSettings, environment: Environment, part: str = "all") -> str:
    """The text of one part. Raises UnusableSettings where nginx cannot do what is asked."""
    require_plain(settings)
    if part not in PARTS:
        raise UnusableSettings(f"nginx has no part {part!r}: choose one of {', '.join(PARTS)}")
    if part != "auth-request" and is_older(settings.version, OLDEST):
        raise UnusableSettings(
            f"nginx {settings.version} has no js_access: use nginx {OLDEST[0]}.{OLDEST[1]} or later, "
            "or --part auth-request for routes that need no model"
        )
    # Here the token must be a directive, so it has a file of its own beside the one that other gateways read.
    token = settings.token
    token_include = None if token is None else f"{token.name}.conf" if token.kind == "file" else TOKEN_INCLUDE
    return environment.get_template(PARTS[part]).render(
        settings=settings,
        part=part,
        variable=variable,
        backends=backends(settings.upstreams),
        token_include=token_include,
        client_headers=CLIENT_HEADERS,
        upstream_headers=(*IDENTITY_HEADERS, "Authorization", *settings.claim_headers),
        removed_headers=(*GATEWAY_HEADERS, *FORGEABLE_HEADERS),
        # nginx has no variable for a header of other characters.
        request_id_variables=[
            f"$http_{variable(name)}"
            for name in settings.request_id_headers
            if re.fullmatch(r"[a-z0-9-]+", name)
        ],
        refusals=REFUSALS,
        errors=ALL,
        authz_scheme="http" if settings.authz_tls is None else "https",
        system_authorities=SYSTEM_AUTHORITIES,
        unavailable=UNAVAILABLE.body,
        response_bytes="$body_bytes_sent" if part == "auth-request" else "$authz_response_bytes",
        ask_timeout=duration(settings.auth_timeout),
        connect_timeout=duration(settings.auth_timeout / 4),
    )


def backends(upstreams: Sequence[Upstream]) -> list[Backend]:
    """Each with an `upstream` block whose name no other has."""
    found: list[Backend] = []
    for upstream in upstreams:
        group = "backend_" + re.sub(r"[^a-z0-9]+", "_", upstream.name.lower())
        while any(other.group == group for other in found):
            group += "_"
        found.append(
            Backend(
                name=upstream.name,
                group=group,
                url=f"{'https' if upstream.tls else 'http'}://{group}",
                host=upstream.address.host,
                address=str(upstream.address),
                tls=upstream.tls,
                models=upstream.models,
            )
        )
    return found


def variable(header: str) -> str:
    """A header's name as part of an nginx variable's."""
    return header.lower().replace("-", "_")


def duration(seconds: float) -> str:
    """In nginx's notation."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"
