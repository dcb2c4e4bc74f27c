"""Envoy: the complete configuration, and its parts for an Envoy that exists.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from authz.gateway.blocks import render_blocks
from authz.gateway.own_answers import (
    INVALID_PATH,
    INVALID_REQUEST,
    NO_ROUTE,
    TOO_LARGE,
    UNAVAILABLE,
    UPSTREAM_AUTH_FAILED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    OwnAnswer,
)
from authz.gateway.plain import require_plain
from authz.gateway.settings import SYSTEM_AUTHORITIES, Address, RenderSettings, UnusableSettings, is_number
from authz.gateway.version import is_older
from authz.gateway.wire import CLIENT_HEADERS
from authz.gateway.yaml_text import quoted, single_quoted

OLDEST = (1, 40)
"""The Envoy that this configuration is tested with."""

PARTS: Mapping[str, str] = {
    "all": "envoy.yaml.j2",
    "secret": "envoy-secret.yaml.j2",
    "cleanup": "envoy-cleanup.yaml.j2",
    "access-log": "envoy-access-log.yaml.j2",
    "replies": "envoy-replies.yaml.j2",
    "filter": "envoy-filter.yaml.j2",
    "routes": "envoy-routes.yaml.j2",
    "clusters": "envoy-clusters.yaml.j2",
}
"""Name of each part, and its template."""

Reply = tuple[str, OwnAnswer | None, int | None]

REPLIES: tuple[Reply, ...] = (
    ("response.code_details == 'ext_authz_denied'", None, None),  # authz's refusal, as it is
    ("response.code_details == 'ext_authz_error'", UNAVAILABLE, 503),
    (
        "response.code_details == 'lua_response'",
        UNAVAILABLE,
        503,
    ),  # a body could not be changed as authz asked
    ("xds.route_name == 'models' && response.code >= 500", UNAVAILABLE, 503),
    ("response.code_details == 'direct_response'", UNAVAILABLE, 503),  # of several backends authz chose none
    ("response.code == 413", TOO_LARGE, None),
    ("response.code_details == 'http1.invalid_transfer_encoding'", INVALID_REQUEST, 400),  # Envoy's is 501
    ("response.code_details == 'path_normalization_failed'", INVALID_PATH, None),
    ("response.code_details == 'absolute_path_rejected'", INVALID_PATH, 400),
    ("response.code == 404", NO_ROUTE, 403),
    ("response.code >= 400 && response.code < 500", INVALID_REQUEST, None),
    # The time that the request's own preference allows.
    ("response.code == 504 && response.code_details.contains('response_timeout')", UPSTREAM_TIMEOUT, None),
    ("response.code >= 500", UPSTREAM_UNAVAILABLE, 502),
)
"""Condition (CEL over Envoy's attributes), answer, status in the place of Envoy's."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A model server in Envoy's terms."""

    name: str
    cluster: str
    address: Address
    tls: bool
    authority: str
    models: tuple[str, ...]


def render(settings: RenderSettings, environment: Environment, part: str = "all") -> str:
    """The text of one part. Raises UnusableSettings where Envoy cannot do what is asked."""
    if part not in PARTS:
        raise UnusableSettings(f"Envoy has no part {part!r}: choose one of {', '.join(PARTS)}")
    if is_older(settings.version, OLDEST):
        raise UnusableSettings(
            f"Envoy {settings.version} does not know all of this: use Envoy {OLDEST[0]}.{OLDEST[1]} or later"
        )
    if part == "secret" and settings.token is None:
        raise UnusableSettings("the gateway has no token: set `token` in its entry")
    require_plain(settings)
    environment = environment.overlay()
    environment.filters = {
        **environment.filters,
        "quoted": quoted,
        "single_quoted": single_quoted,
        "seconds": seconds,
    }
    values = {
        "settings": settings,
        "backends": backends(settings),
        "replies": REPLIES,
        "unavailable": UNAVAILABLE.body,
        "upstream_auth_failed": UPSTREAM_AUTH_FAILED.body,
        "own_headers": [name.lower() for name in CLIENT_HEADERS],
        "check_try_ms": per_try_ms(settings, settings.authz_grpc),
        "list_try_ms": per_try_ms(settings, settings.authz_http),
        "socket": socket,
        "admin": admin(settings.admin),
        "discovery": discovery,
        "system_authorities": SYSTEM_AUTHORITIES,
    }
    return render_blocks(environment, PARTS[part], values)


def backends(settings: RenderSettings) -> Sequence[Backend]:
    """Cluster names begin with `model-`, so that none is one of ours."""
    return [
        Backend(
            name=upstream.name,
            cluster=f"model-{upstream.name}",
            address=upstream.address,
            tls=upstream.tls,
            authority=_authority(upstream.address, 443 if upstream.tls else 80),
            models=upstream.models,
        )
        for upstream in settings.upstreams
    ]


def _authority(address: Address, usual: int) -> str:
    return str(address).removesuffix(f":{usual}") if address.port == usual else str(address)


def per_try_ms(settings: RenderSettings, asked: Sized) -> int:
    """Time for one try: all there is, unless another authz could be asked in the rest of it."""
    share = 1.0 if len(asked) == 1 else 0.6
    return max(1, round(settings.auth_timeout * 1000 * share))


def socket(address: Address) -> str:
    """Envoy's SocketAddress."""
    return f"{{address: {quoted(address.host)}, port_value: {address.port}}}"


def admin(address: Address | Path) -> str:
    """Envoy's Address of its administration. A socket in the file system is for its owner alone."""
    if isinstance(address, Path):
        return f"{{pipe: {{path: {quoted(str(address))}, mode: {0o600}}}}} # of its owner alone"
    return f"{{socket_address: {socket(address)}}} # loopback only"


def discovery(addresses: Iterable[Address]) -> str:
    """Names are looked up again and again, numbers never."""
    return "STATIC" if all(is_number(address.host) for address in addresses) else "STRICT_DNS"


def seconds(value: float) -> str:
    """A protobuf Duration in JSON."""
    return f"{value:g}s"
