"""Which gateway is asking, and whether it proved that (invariant 10)."""

import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network

from msgspec import Struct

from authz.request import STREAM_TIMEOUT_MS, Gateway, GatewayKind
from authz.transport.address import UNIX, is_loopback, parse_address
from authz.transport.hops import TrustedHops
from authz.transport.peer_certificate import PeerCertificate, name_of
from authz.transport.seal import seal

LONGEST_TOKEN = 512
_MOST_PEERS = 4096
UNIDENTIFIED = "unidentified"  # how logs and metrics name a gateway that proved nothing, or something wrong


class GatewayEntry(Struct, frozen=True, kw_only=True):
    """One gateway of the configuration."""

    name: str
    kind: GatewayKind
    token_digest: bytes | None = None  # SHA-256 of its token; None: it cannot prove itself by token
    subjects: tuple[str, ...] = ()  # names of which its certificate carries one (mutual TLS)
    fingerprints: tuple[str, ...] = ()  # or SHA-256 of its certificate, in lower-case hex
    networks: tuple[IPv4Network | IPv6Network, ...] = ()  # config `from:`; empty: anywhere
    trusted_hops: tuple[IPv4Network | IPv6Network, ...] = ()  # proxies before it
    request_id_is_ours: bool = False
    stream_timeout_ms: int = STREAM_TIMEOUT_MS
    seal_key: bytes | None = None  # its log tells the end of responses, each by a seal of this key

    def __repr__(self) -> str:
        return f"GatewayEntry({self.name!r}, {self.kind.value!r})"


_Proof = tuple[str, bytes | str]  # what it is of, so that none passes for another; and the digest or name


class GatewayRegistry:
    """Tells gateways apart by token or certificate, and by address."""

    def __init__(self, entries: Iterable[GatewayEntry], *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._clock = clock
        self._by_proof: dict[_Proof, list[tuple[GatewayEntry, Gateway]]] = {}
        self._seal_keys: dict[str, bytes] = {}
        for entry in entries:
            if entry.seal_key is not None:
                self._seal_keys[entry.name] = entry.seal_key
            gateway = Gateway(
                name=entry.name,
                kind=entry.kind,
                proven=True,
                stream_timeout_ms=entry.stream_timeout_ms,
                request_id_is_ours=entry.request_id_is_ours,
                hops=TrustedHops(entry.trusted_hops) if entry.trusted_hops else None,
            )
            for proof in _proofs(entry):
                self._by_proof.setdefault(proof, []).append((entry, gateway))
        self._unproven = {kind: Gateway(name=kind.value, kind=kind, proven=False) for kind in GatewayKind}
        self._nearby: dict[tuple[str, str], bool] = {}

    def identify(
        self,
        kind: GatewayKind | None,
        token: str | None,
        peer: str,
        certificate: PeerCertificate | None = None,
    ) -> Gateway | None:
        """The gateway; None when it must be refused (GATEWAY_UNPROVEN).

        A token proves an entry of that kind (None: of any kind), and so does a verified certificate
        where no token is shown. With neither, this machine gets plain decisions and any other peer
        nothing. `peer` is an address, or UNIX.
        """
        if token is not None:
            if len(token) > LONGEST_TOKEN:
                return None
            digest = sha256(token.encode("latin-1", "replace")).digest()
            return self._proven([("token", digest)], kind, peer)
        if certificate is not None and certificate.is_valid(self._clock()):
            gateway = self._proven(_shown(certificate), kind, peer)
            if gateway is not None:
                return gateway
        return self._unproven[kind or GatewayKind.ENVOY] if is_loopback(peer) else None

    def _proven(self, proofs: Iterable[_Proof], kind: GatewayKind | None, peer: str) -> Gateway | None:
        for proof in proofs:
            for entry, gateway in self._by_proof.get(proof, ()):
                if (kind is None or entry.kind is kind) and (
                    not entry.networks or self._is_from(entry, peer)
                ):
                    return gateway
        return None

    def seal(self, gateway: Gateway, reservation: str) -> str | None:
        """What a line of the gateway's log must hold beside the reservation; None: nobody reads its log."""
        key = self._seal_keys.get(gateway.name) if gateway.proven else None
        return seal(key, reservation) if key is not None else None

    def _is_from(self, entry: GatewayEntry, peer: str) -> bool:
        known = self._nearby.get((entry.name, peer))
        if known is None:
            address = parse_address("127.0.0.1" if peer == UNIX else peer)
            known = address is not None and any(address in network for network in entry.networks)
            if len(self._nearby) >= _MOST_PEERS:
                self._nearby.clear()
            self._nearby[entry.name, peer] = known
        return known


def _proofs(entry: GatewayEntry) -> Iterator[_Proof]:
    if entry.token_digest is not None:
        yield "token", entry.token_digest
    for fingerprint in entry.fingerprints:
        yield "fingerprint", fingerprint
    for subject in entry.subjects:
        yield "name", name_of(subject)


def _shown(certificate: PeerCertificate) -> Iterator[_Proof]:
    yield "fingerprint", certificate.fingerprint
    for name in sorted(certificate.names):
        yield "name", name
