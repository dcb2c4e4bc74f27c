"""Limits that a store on Redis could only count roughly, which it refuses to."""

from collections.abc import Iterator

from authz.config.findings import Finding
from authz.config.limits import LimitEntry
from authz.config.model import Config
from authz.config.store import REMOTE, Store
from authz.config.yaml_source import DataPath
from authz.quota import Algorithm, Quota
from authz.store.redis.fineness import too_fine


def countable(store: Store, quota: Quota, amount: int | None = None) -> bool:
    """Whether a store counts a quota exactly; `amount`: with this in the place of its own."""
    if store.scheme not in REMOTE or quota.window.algorithm is not Algorithm.GCRA:
        return True
    rate = quota.amount if amount is None else amount
    return not too_fine(quota.burst_of(rate), rate, quota.window.length_ms)


def fine_buckets(config: Config) -> Iterator[Finding]:
    """Every figure of every limit; a store that is not known here is taken for one that can."""
    if config.store is None:
        return
    for name, limit in config.limits.items():
        for path, amount in _amounts(limit):
            if not countable(config.store, limit.value, amount):
                message = (
                    f"limits.{name}: Redis cannot drain this exactly; "
                    "use `algorithm: sliding` or a rounder quota"
                )
                yield Finding(("limits", name, *path), message)


def _amounts(limit: LimitEntry) -> Iterator[tuple[DataPath, int]]:
    yield ("quota",), limit.quota
    if limit.shadow is not None:
        yield ("shadow", "quota"), limit.shadow.quota
    for index, override in enumerate(limit.overrides):
        yield ("overrides", index, "quota"), override.quota
