"""Every store, on an injected clock."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store
from tests.contract.kit import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/authz.db"


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[EmbeddedStore]:
    opened = open_store(url, clock=clock)
    yield opened
    await opened.close()
