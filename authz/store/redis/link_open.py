"""The link that a URL asks for."""

from collections.abc import Callable

from authz.store.redis.cluster_link import ClusterLink
from authz.store.redis.link import Link
from authz.store.redis.link_server import ServerLink
from authz.store.redis.sentinel import SentinelLink
from authz.store.redis.target import CLUSTER, SENTINEL, Target

_LINKS: dict[str, Callable[[Target], Link]] = {CLUSTER: ClusterLink, SENTINEL: SentinelLink}


def open_link(target: Target) -> Link:
    """Not connected yet: see `start`. In a running event loop only."""
    return _LINKS.get(target.kind, ServerLink)(target)
