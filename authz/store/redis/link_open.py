"""The link that a URL asks for."""

from authz.store.redis.link_calls import Caller
from authz.store.redis.link_server import ServerLink
from authz.store.redis.target import Target


def open_link(target: Target) -> Caller:
    """Not connected yet: see `start`. In a running event loop only."""
    return ServerLink(target)
