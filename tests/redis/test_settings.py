"""A Redis that would give quotas back is told of at the start."""

from pathlib import Path

import pytest

from authz.store.open import open_store
from tests.redis.link_kit import PATIENT
from tests.support.redis import RedisServer


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(("appendonly", "yes"), [], id="as-it-should-be"),
        pytest.param(("appendonly", "no"), ["append-only"], id="no-file"),
        pytest.param(
            ("appendonly", "yes", "maxmemory", "64mb", "maxmemory-policy", "allkeys-lru"),
            ["maxmemory-policy allkeys-lru"],
            id="evicts",
        ),
        pytest.param(("appendonly", "yes", "maxmemory-policy", "allkeys-lru"), [], id="without-bound"),
    ],
)
async def test_what_is_doubtful_is_logged(
    options: tuple[str, ...], told: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path, *options) as server:
        store = open_store(f"{server.url}{PATIENT}")
        await store.start()
        await store.close()
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == len(told), warnings
    for words, warning in zip(told, warnings, strict=True):
        assert words in warning
