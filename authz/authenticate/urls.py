"""Which addresses keys may be fetched from (attacks 59, 82)."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def fault_of_url(url: str) -> str | None:
    """What is wrong with a configured address; None where it is good. Plain http is the operator's choice."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "is not an http or https URL"
    if not parts.hostname or port == 0:
        return "names no host"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password"
    if parts.fragment:
        return "holds a fragment"
    if is_forbidden(parts.hostname):
        return "points to an address that no identity provider has"
    return None


def fault_of_found_url(url: str, found_at: str) -> str | None:
    """The same for an address that a fetched document names: https, or the very origin of that document."""
    if fault := fault_of_url(url):
        return fault
    there, here = urlsplit(url), urlsplit(found_at)
    if there.scheme == "https" or (there.scheme, there.netloc) == (here.scheme, here.netloc):
        return None
    return "is neither https nor on the host that names it"


def is_forbidden(host: str) -> bool:
    """Link-local (cloud metadata), multicast and unspecified addresses. A name is judged when connected."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_link_local or address.is_multicast or address.is_unspecified
