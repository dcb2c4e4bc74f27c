"""The client's address where proxies stand before the gateway: a walk from the gateway outwards."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from authz.transport.address import parse_address

_MOST_REMEMBERED = 4096
_LONGEST = 4096  # characters of X-Forwarded-For
_MOST_HOPS = 32

Network = IPv4Network | IPv6Network


class TrustedHops:
    """Proxies that are believed about who asked them.

    X-Forwarded-For grows to the right: its last address is what the gateway
    itself saw, each before it is what the next proxy claims. So the walk goes
    from right to left, over trusted proxies only, and the first that is none of
    them is the client, whatever stands to its left (attack 40).
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, str | None] = {}

    def client(self, forwarded_for: str) -> str | None:
        """The client's address; None where something on the way is no address (attack 42).

        Where every proxy is trusted, the first of them asked by itself.
        """
        if len(forwarded_for) > _LONGEST:
            return None
        if forwarded_for in self._known:
            return self._known[forwarded_for]
        found = self._walk(forwarded_for)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[forwarded_for] = found
        return found

    def _walk(self, forwarded_for: str) -> str | None:
        hops = [hop.strip(" \t") for hop in forwarded_for.split(",")]
        client: str | None = None
        passed = [hop for hop in reversed(hops) if hop]
        for hop in passed if len(passed) <= _MOST_HOPS else ():
            address = parse_address(hop)
            if address is None:
                return None
            client = str(address)
            if not any(address in network for network in self._networks):
                return client
        return client

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustedHops) and other._networks == self._networks

    def __hash__(self) -> int:
        return hash(self._networks)
