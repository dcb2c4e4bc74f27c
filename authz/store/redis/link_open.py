"""The link that a URL asks for."""

from authz.store.redis.cluster_link import ClusterLink
from authz.store.redis.link_calls import Caller
from authz.store.redis.link_server import ServerLink
from authz.store.redis.sentinel import SentinelLink
from authz.store.redis.target import CLUSTER, SENTINEL, Target

_LINKS: dict[str, type[Caller]] = {CLUSTER: ClusterLink, SENTINEL: SentinelLink}


def open_link(target: Target) -> Caller:
    """Not connected yet: see `start`. In a running event loop only."""
    return _LINKS.get(target.kind, ServerLink)(target)
