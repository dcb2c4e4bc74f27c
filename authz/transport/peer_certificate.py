"""The certificate by which whoever is connected to us proves itself (mutual TLS).

The handshake has shown that it holds the key, and that an authority which
`decisions.tls.client_ca` names signed the certificate for a client (RFC 8446 4.4.2,
RFC 5280 4.2.1.12). Whose it is, is told by its names or its fingerprint.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from ssl import PEM_cert_to_DER_cert, SSLObject
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MOST_KNOWN = 64
_LONGEST = 65536  # bytes


class PeerCertificate(Struct, frozen=True):
    """What a verified certificate says of its holder."""

    names: frozenset[str]  # URI and DNS names, the latter in lower case; the common name where there are none
    fingerprint: str  # SHA-256 over the DER form, in hex
    not_before: float  # seconds since the epoch
    not_after: float

    def is_valid(self, now: float) -> bool:
        """Connections live for hours, and so may outlive the certificate that opened them."""
        return self.not_before <= now <= self.not_after


@lru_cache(maxsize=_MOST_KNOWN)
def from_der(der: bytes) -> PeerCertificate | None:
    """None for what cannot be read."""
    from cryptography import x509  # some megabytes, for which only a certificate is a reason

    if len(der) > _LONGEST:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        return PeerCertificate(
            names=frozenset(_names(certificate)),
            fingerprint=sha256(der).hexdigest(),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )
    except (ValueError, x509.DuplicateExtension):
        return None


def _names(certificate: "Certificate") -> Sequence[str]:
    """RFC 6125 6.4.4: the common name counts only where the certificate names nothing else."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        known = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        values = (each.value for each in common)
        return [name_of(value) for value in values if isinstance(value, str) and "://" not in value]
    uris = known.get_values_for_type(x509.UniformResourceIdentifier)
    # Neither a DNS name nor a common name has a scheme: so none can pass for a URI.
    hosts = (name for name in known.get_values_for_type(x509.DNSName) if "://" not in name)
    return [*(uri for uri in uris if "://" in uri), *map(name_of, hosts)]


def name_of(text: str) -> str:
    """A name as it is compared: URIs as they stand, all others in lower case."""
    return text if "://" in text else text.lower()


@lru_cache(maxsize=_MOST_KNOWN)
def _from_pem(pem: bytes) -> PeerCertificate | None:
    try:
        return from_der(PEM_cert_to_DER_cert(pem.decode("ascii")))
    except ValueError:
        return None


def of_tls(connection: SSLObject | None) -> PeerCertificate | None:
    """Of a connection of Python's `ssl`; None without TLS, and where the peer showed none."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    return from_der(der) if der else None


def of_grpc(auth_context: Mapping[str, Sequence[bytes]]) -> PeerCertificate | None:
    """Of grpcio's `auth_context()`, whose `x509_pem_cert` is the peer's own certificate."""
    shown = auth_context.get("x509_pem_cert") or ()
    return _from_pem(shown[0]) if len(shown) == 1 else None
