"""Envoy with a configuration rendered for its surroundings."""

from collections.abc import Sequence
from dataclasses import replace

from authz.gateway.render import render
from authz.gateway.settings import Address, RenderSettings
from tests.support.envoy import command
from tests.support.gateway import Around
from tests.support.ports import free_port
from tests.support.rendered import Change, Rendered


class RenderedEnvoy(Rendered):
    """Envoy."""

    name = "rendered-envoy"

    def __init__(self, around: Around, change: Change = lambda settings: settings) -> None:
        admin = Address("127.0.0.1", free_port())
        grpc = (Address("127.0.0.1", around.authz_grpc),)

        def fitting(settings: RenderSettings) -> RenderSettings:
            return change(replace(settings, admin=admin, authz_grpc=grpc))

        super().__init__(around, fitting)

    def write(self) -> Sequence[str]:
        self.token_file()
        return command(self.put("envoy.yaml", render("envoy", self.settings())["envoy.yaml"]))
