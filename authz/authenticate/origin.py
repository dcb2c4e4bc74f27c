"""Whose doing a request is, as far as an address tells: what shares between strangers goes by."""

from ipaddress import IPv6Address, ip_address, ip_network

_PREFIX = 64  # bits of an IPv6 address that one household or host has to itself (RFC 6177)


def origin_of(ip: str | None) -> str:
    """An IPv4 address, or the network of an IPv6 one: who has one of its addresses has all of them.

    Empty where the gateway did not prove where requests come from: they share.
    """
    if ip is None or ":" not in ip:
        return ip or ""
    try:
        address = ip_address(ip)
    except ValueError:
        return ""
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _PREFIX), strict=False))
