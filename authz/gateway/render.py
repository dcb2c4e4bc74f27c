"""`authz render`: the complete, commented configuration of a gateway, or a piece of it to paste."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from authz.gateway import caddy, envoy, nginx, traefik
from authz.gateway.settings import RenderSettings, UnusableSettings


@dataclass(frozen=True, slots=True)
class Renderer:
    """One kind of gateway: how its parts are rendered, and which of them are the files of the whole."""

    render: Callable[[RenderSettings, Environment, str], str]
    parts: Mapping[str, str]
    files: Mapping[str, str]  # file name -> part
    copies: Mapping[str, str] = field(default_factory=dict)  # file name -> file of this package, as it is


RENDERERS: Mapping[str, Renderer] = {
    "envoy": Renderer(envoy.render, envoy.PARTS, {"envoy.yaml": "all"}),
    "traefik": Renderer(traefik.render, traefik.PARTS, traefik.FILES, traefik.PLUGIN_FILES),
    "nginx": Renderer(
        nginx.render,
        nginx.PARTS,
        {
            "nginx.conf": "all",
            "authz.js": "js",
            "authz-usage.js": "js-usage",
            "auth-request.conf": "auth-request",
        },
    ),
    "caddy": Renderer(caddy.render, caddy.PARTS, {"Caddyfile": "all"}),
}


def environment() -> Environment:
    """Of the templates in this package. They make configuration files, not HTML: nothing is escaped."""
    return Environment(
        loader=PackageLoader("authz.gateway", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  (configuration files, not HTML)
    )


def render(kind: str, settings: RenderSettings, part: str | None = None) -> dict[str, str]:
    """File name -> text; with `part` only that one, under its own name.

    Raises UnusableSettings where the gateway cannot do what is asked.
    """
    renderer = RENDERERS.get(kind)
    if renderer is None:
        raise UnusableSettings(f"{kind!r} is no gateway: choose one of {', '.join(RENDERERS)}")
    templates = environment()
    if part is not None:
        return {part: renderer.render(settings, templates, part)}
    files = {name: renderer.render(settings, templates, each) for name, each in renderer.files.items()}
    source = resources.files("authz.gateway").joinpath("templates")
    return files | {name: source.joinpath(each).read_text() for name, each in renderer.copies.items()}
