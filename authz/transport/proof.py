"""What whoever calls over gRPC shows to prove itself: a token in the metadata, or a certificate."""

from collections.abc import Iterable
from typing import NamedTuple

from authz.transport.address import socket_peer
from authz.transport.headers import GATEWAY_TOKEN
from authz.transport.lane import Caller
from authz.transport.peer_certificate import PeerCertificate, of_tls


class Proof(NamedTuple):
    """As `GatewayRegistry.identify` asks for it."""

    token: str | None
    peer: str
    certificate: PeerCertificate | None


def of_caller(caller: Caller) -> Proof:
    """Of a call on the lane. A certificate counts only where no token is shown."""
    token = token_of(caller.metadata)
    return Proof(token, socket_peer(caller.peer), of_tls(caller.tls) if token is None else None)


def token_of(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The gateway's token out of a call's metadata; an unusable one for a token sent twice."""
    found: str | None = None
    for name, value in metadata:
        if name == GATEWAY_TOKEN:
            if found is not None:
                return ""
            found = value if isinstance(value, str) else value.decode("latin-1")
    return found
