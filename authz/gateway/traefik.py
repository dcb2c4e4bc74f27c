"""Traefik: static and dynamic configuration with our two plugins, and their parts for a Traefik that exists.

https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/forwardauth/
"""

import re
from collections.abc import Mapping

from jinja2 import Environment

from authz.gateway.blocks import render_blocks
from authz.gateway.plain import require_plain
from authz.gateway.settings import Address, RenderSettings, UnusableSettings
from authz.gateway.version import is_older
from authz.gateway.yaml_text import quoted

OLDEST = (3, 7)
"""The Traefik that this configuration is tested with."""

_ALIASES = (3, 7, 12)
"""The first Traefik with `aliasHeadersStrategy`; an older one does not start with it."""

PARTS: Mapping[str, str] = {
    "static": "traefik-static.yml.j2",
    "dynamic": "traefik-dynamic.yml.j2",
    "middlewares": "traefik-middlewares.yml.j2",
    "routers": "traefik-routers.yml.j2",
}
"""Name of each part, and its template."""

_PLUGINS = "plugins-local/src/github.com/llm-authz"

FILES: Mapping[str, str] = {"traefik.yml": "static", "dynamic.yml": "dynamic"}
"""Files of the whole that are rendered, and their parts."""

_PLUGIN_SOURCES: Mapping[str, tuple[str, ...]] = {
    "authzguard": ("writer", "usage", "reports"),
    "authzreply": ("edit",),
}
"""Each plugin, and its files beside the one that has its name."""

PLUGIN_FILES: Mapping[str, str] = {
    f"{_PLUGINS}/{plugin}/{name}": f"traefik-{plugin}{ending}"
    for plugin, sources in _PLUGIN_SOURCES.items()
    for name, ending in (
        (f"{plugin}.go", ".go"),
        *((f"{source}.go", f"-{source}.go") for source in sources),
        ("go.mod", ".mod"),
        (".traefik.yml", ".yml"),
    )
}
"""Files of the whole that are copied."""


def render(settings: RenderSettings, environment: Environment, part: str = "dynamic") -> str:
    """The text of one part. Raises UnusableSettings where Traefik cannot do what is asked."""
    if part not in PARTS:
        raise UnusableSettings(f"Traefik has no part {part!r}: choose one of {', '.join(PARTS)}")
    if is_older(settings.version, OLDEST):
        raise UnusableSettings(
            f"Traefik {settings.version} cannot be closed well: use Traefik {OLDEST[0]}.{OLDEST[1]} or later"
        )
    if len(settings.authz_http) > 1:
        raise UnusableSettings("Traefik asks one address: give authz a name that stands for all of them")
    require_plain(settings)
    environment = environment.overlay()
    environment.filters = {**environment.filters, "quoted": quoted, "listen": listen}
    values = {
        "settings": settings,
        "host_rule": host_rule(settings),
        "authz_url": f"{'http' if settings.authz_tls is None else 'https'}://{settings.authz_http[0]}",
        "answered": ("Authorization", "X-Api-Key", *settings.claim_headers),
        "request_id_headers": [name.title() for name in settings.request_id_headers],
        "has_aliases": has_aliases(settings.version),
    }
    return render_blocks(environment, PARTS[part], values)


def listen(address: Address) -> str:
    """An entry point's address. All interfaces, of both families, are written without host."""
    return quoted(f":{address.port}" if address.host in ("0.0.0.0", "::") else str(address))


def host_rule(settings: RenderSettings) -> str:
    """The beginning of a router's rule."""
    if settings.server_name is None:
        return ""
    if not re.fullmatch(r"[A-Za-z0-9.-]+", settings.server_name):
        raise UnusableSettings(f"server_name: {settings.server_name!r} is no host name")
    return f"Host(`{settings.server_name}`) && "


def has_aliases(version: str | None) -> bool:
    """Whether that Traefik knows `aliasHeadersStrategy`. Without a patch level the last one is meant."""
    if version is None:
        return True
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return numbers >= _ALIASES[: len(numbers)]
