"""The same through a real socket: decisions and reports of usage while the store does not answer."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from authz.request import GatewayKind
from authz.service import Service
from authz.transport.http import HttpTransport
from authz.transport.serve import HttpServer, start_http
from authz.transport.service import Desk
from tests.decide.test_store_trouble import Site
from tests.store.switched import TROUBLES, Way
from tests.transport.support import TOKENS, Counted, health, registry

TOKEN = {"x-authz-gateway-token": TOKENS[GatewayKind.TRAEFIK]}


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def server(site: Site) -> AsyncIterator[HttpServer]:
    service = Service(site.decider, site.counters, site.lab.store.denials, site.lab.clock)
    started = await start_http(HttpTransport(Desk(service, Counted()), registry(), health()), "127.0.0.1:0")
    yield started
    await started.stop()


@pytest.mark.parametrize("way", TROUBLES, ids=lambda way: way.name.lower())
async def test_allowed_refused_settled_and_told(site: Site, server: HttpServer, way: Way) -> None:
    site.way.way = way
    async with httpx2.AsyncClient(base_url=f"http://{server.address}", timeout=30) as client:

        async def ask(route: str) -> httpx2.Response:
            headers = {
                "authorization": f"Bearer {site.key.key}",
                "x-forwarded-method": "GET",
                "x-forwarded-uri": f"/{route}",
                "x-forwarded-host": "llm.test",
            }
            return await client.get("/auth/traefik", headers=headers | TOKEN)

        answers = [await ask("open-share") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "1"
        refused = await ask("all")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "authz_unavailable")

        reservation = answers[0].headers["x-authz-reservation"]
        report = {"reservation": reservation, "status": 200}
        told = await client.post("/v1/usage", headers=TOKEN, json=report)
        assert told.json()["results"] == [{"reservation": reservation, "outcome": "settled"}]
        site.way.way = Way.UP
        assert await site.counters.reconcile()
        again = await client.post("/v1/usage", headers=TOKEN, json=report)
        assert again.json()["results"] == [{"reservation": reservation, "outcome": "already"}]
        assert (await ask("open-share")).status_code == 429, "the store knows what was spent without it"
