"""Traefik with a configuration rendered for its surroundings."""

from collections.abc import Sequence

from authz.gateway.render import render
from tests.support.processes import executable
from tests.support.rendered import Rendered
from tests.support.traefik import has_routes


class RenderedTraefik(Rendered):
    """Traefik."""

    name = "rendered-traefik"

    def write(self) -> Sequence[str]:
        self.token_file()
        for name, text in render("traefik", self.settings()).items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return [executable("traefik"), f"--configFile={self.directory}/traefik.yml"]

    def answers(self) -> bool:
        if self.settings().plain_http:
            return has_routes(self.around.http, None)
        return super().answers() and has_routes(self.around.https, self.around.certificates.trust())
