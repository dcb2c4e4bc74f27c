"""Where a request comes from, as a condition: addresses and networks (`type: network`)."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from authz.authenticate.presented import Presented, Slot
from authz.authenticate.protocol import Outcome, Refused
from authz.reason import Reason
from authz.recent import Recent
from authz.subject import Subject

MOST_REMEMBERED = 16_384  # addresses

_MAPPED = IPv6Network("::ffff:0:0/96")
_UNKNOWN = Refused(Reason.NETWORK_REFUSED, "The gateway did not prove where the request comes from.")
_MOST_TOLD = 4  # networks


class NetworkAuthenticator:
    """Passes requests from some networks. Raises ValueError for an allow list that cannot be read.

    An address is no credential: in `all_of` it adds a condition and no user, in
    `any_of` it counts only where nothing was presented. Alone it makes the
    subject `network:NAME`.
    """

    ambient = True
    asserts: frozenset[str] = frozenset()
    challenge = ""
    wants = ""
    slots: tuple[Slot, ...] = ()

    def __init__(self, name: str, allow: Iterable[str]) -> None:
        self.name = name
        self._allow = tuple(_network(text) for text in allow)
        self._subject = Subject(user=f"network:{name}", authenticator=name)
        self._judged: Recent[str, bool] = Recent(MOST_REMEMBERED)

    async def authenticate(self, presented: Presented) -> Outcome:
        """The subject, or a refusal; never None, for a request always comes from somewhere."""
        ip = presented.request.ip
        if ip is None:
            return _UNKNOWN
        allowed = self._judged.get(ip)
        if allowed is None:
            allowed = self._allows(ip)
            self._judged.put(ip, allowed)
        return self._subject if allowed else self._refusal(ip)

    def _refusal(self, ip: str) -> Refused:
        listed = ", ".join(map(str, self._allow[:_MOST_TOLD])) + (
            " and others" if len(self._allow) > _MOST_TOLD else ""
        )
        return Refused(Reason.NETWORK_REFUSED, note=f"{ip} is in no network of `{self.name}`: {listed}.")

    def _allows(self, ip: str) -> bool:
        """Exact notation only: no zone (`fe80::1%eth0`), leading zeros or full-width digits (attack 42)."""
        try:
            address = ip_address(ip) if "%" not in ip else None
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # the same host in another notation (attack 41)
        return address is not None and any(address in network for network in self._allow)


def _network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        return IPv4Network((int(mapped or 0), network.prefixlen - 96))
    return network
