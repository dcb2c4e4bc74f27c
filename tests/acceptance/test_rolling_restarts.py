"""Replicas are restarted one after another under load, and no request fails."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from authz.gateway.settings import Address, RenderSettings
from tests.acceptance.replicas import Replicas, replicas
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.ports import free_port
from tests.support.redis import RedisServer
from tests.support.rendered import Change, Rendered, RenderedNginx
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.simulated import SimulatedModel
from tests.support.stream_client import StreamClient

RESTARTS = int(os.environ.get("AUTHZ_ROLLING_RESTARTS", "10"))
CLIENTS = 8


class Load:
    """Clients that keep asking, in a thread of their own. Every answer is counted by its status."""

    def __init__(self, gateway: Rendered, certificates: Certificates, key: str) -> None:
        self._gateway = gateway
        self._tls = certificates.trust()
        self._key = key
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self.answers: Counter[int] = Counter()
        self.bad: list[Any] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()

    async def _all(self) -> None:
        results = await asyncio.gather(*map(self._client, range(CLIENTS)), return_exceptions=True)
        self.bad += [each for each in results if each is not None]

    async def _client(self, number: int) -> None:
        async with StreamClient(self._gateway.around.https, self._tls, self._key) as client:
            while not self._over:
                asked = {
                    "model": "sim",
                    "messages": [{"role": "user", "content": f"from {number}"}],
                    "max_tokens": 8,
                    "simulate": {"output": 4, "seed": number},
                }
                await asyncio.sleep(0.02)  # so that the machine has time for the restarts
                reply = await client.post("/v1/chat/completions", asked)
                self.answers[reply.status] += 1
                if reply.status != 200:
                    self.bad.append(reply)


def _both(services: Sequence[Any]) -> Change:
    def change(settings: RenderSettings) -> RenderSettings:
        http = tuple(Address("127.0.0.1", each.http) for each in services)
        grpc = tuple(Address("127.0.0.1", each.grpc) for each in services)
        return replace(settings, authz_http=http, authz_grpc=grpc)

    return change


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    scratch = tmp_path_factory.mktemp("rolling")
    with RedisServer(scratch) as server, replicas(scratch, f"{server.url}?budget=1000ms", 2) as at:
        yield at


@pytest.mark.timeout(90 * max(RESTARTS, 10))
@pytest.mark.parametrize("kind", [RenderedEnvoy, RenderedNginx], ids=["envoy", "nginx"])
def test_no_request_fails(
    kind: type[Rendered], at: Replicas, tmp_path: Path, certificates: Certificates
) -> None:
    with SimulatedModel(tmp_path / "model") as model:
        around = Around(
            directory=tmp_path,
            certificates=certificates,
            authz_http=at.services[0].http,
            authz_grpc=at.services[0].grpc,
            model=model.port,
            token=f"token-of-{kind.name.removeprefix('rendered-')}-in-the-tests",
            log=free_port(),
        )
        key = at.key("requests=1000000/day").key
        with kind(around, _both(at.services)) as gateway, Load(gateway, certificates, key) as load:
            # A child dies with the thread that started it: the load has the other thread.
            for number in range(RESTARTS):
                service = at.services[number % len(at.services)]
                service.stop()
                service.start()
    assert load.bad == []
    assert load.answers[200] > 5 * RESTARTS
    print(f"\n{kind.name}: {RESTARTS} restarts, {load.answers[200]} answers")
