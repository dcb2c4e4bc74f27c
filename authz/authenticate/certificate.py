"""Client certificates that a proven gateway verified (`type: certificate`)."""

from collections.abc import Callable, Iterable
from datetime import UTC
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from authz.authenticate.claims import is_name
from authz.authenticate.mapped import mapped
from authz.authenticate.presented import Presented, Slot
from authz.authenticate.protocol import Outcome, Refused
from authz.reason import Reason
from authz.recent import Recent
from authz.store.protocols import Clock, Directory
from authz.subject import Subject

MOST_REMEMBERED = 2_048  # certificates, up to 64 KiB each, a few KiB as a rule

SubjectFrom = Literal["uri_san", "dns_san", "email_san", "common_name"]

_EXPIRED = Refused(Reason.CERTIFICATE_EXPIRED)
_EARLY = Refused(Reason.CERTIFICATE_INVALID, "The client certificate is not valid yet. Check the clocks.")
_CLIENTS = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


class _Read(Struct, frozen=True):
    """What a certificate says."""

    user: str | Refused
    begins: int  # ms since the epoch
    ends: int


class CertificateAuthenticator:
    """Takes the user from one kind of name in the client's certificate.

    That the certificate was signed by the right authority is the gateway's to
    verify; only a proven gateway is believed. Times and names are judged here:
    of several names of the kind, nobody can say which is meant.
    """

    ambient = False
    asserts = frozenset({"x-forwarded-tls-client-cert"})  # Traefik's: it would go on to the model server
    challenge = ""
    wants = "a client certificate"
    slots: tuple[Slot, ...] = ()

    def __init__(
        self,
        name: str,
        subject_from: SubjectFrom,
        directory: Directory,
        clock: Clock,
        *,
        map_users: bool = False,
    ) -> None:
        self.name = name
        self._kind = subject_from
        self._directory = directory
        self._clock = clock
        self._map_users = map_users
        self._read: Recent[str, _Read] = Recent(MOST_REMEMBERED)

    async def authenticate(self, presented: Presented) -> Outcome:
        """None where the client showed no certificate, or the gateway cannot be believed."""
        pem = presented.request.certificate
        if pem is None:
            return None
        read = self._read.get(pem)  # by the whole text: no two certificates share an entry
        if read is None:
            read = _parse(pem, self._kind, colons=not self._map_users)
            self._read.put(pem, read)
        if isinstance(read.user, Refused):
            return read.user
        now = self._clock()
        if now >= read.ends:
            return _EXPIRED
        if now < read.begins:
            return _EARLY
        if not self._map_users:
            return Subject(user=f"{self.name}:{read.user}", authenticator=self.name)
        return mapped(Subject(user=read.user, authenticator=self.name), self._directory)


def _parse(pem: str, kind: SubjectFrom, *, colons: bool) -> _Read:
    """What the certificate says; refused where it cannot be read or names nobody (attacks 44, 45)."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        ends = int(certificate.not_valid_after_utc.astimezone(UTC).timestamp() * 1000) + 1000
        begins = int(certificate.not_valid_before_utc.astimezone(UTC).timestamp() * 1000)
        if not _is_for_clients(certificate):
            return _Read(_invalid("The certificate is not one for clients (extended key usage)."), 0, 0)
        found = set(_NAMES[kind](certificate))
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return _Read(_invalid("The client certificate cannot be read."), 0, 0)
    if len(found) != 1:
        much = "no" if not found else "more than one"
        return _Read(_invalid(f"The client certificate has {much} {_SPELLED[kind]}."), 0, 0)
    user = found.pop()
    if not is_name(user) or not (colons or ":" not in user):
        return _Read(_invalid(f"The {_SPELLED[kind]} of the client certificate cannot name a user."), 0, 0)
    return _Read(user, begins, ends)


def _is_for_clients(certificate: x509.Certificate) -> bool:
    """RFC 5280 4.2.1.12: one that says what it is for must be for clients."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(usage in usages for usage in _CLIENTS)


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _uris(certificate: x509.Certificate) -> Iterable[str]:
    names = _alternatives(certificate)
    return names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else ()


def _hosts(certificate: x509.Certificate) -> Iterable[str]:
    names = _alternatives(certificate)
    return (host.lower() for host in names.get_values_for_type(x509.DNSName)) if names is not None else ()


def _addresses(certificate: x509.Certificate) -> Iterable[str]:
    names = _alternatives(certificate)
    return names.get_values_for_type(x509.RFC822Name) if names is not None else ()


def _common_names(certificate: x509.Certificate) -> Iterable[str]:
    return (str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))


_NAMES: dict[SubjectFrom, Callable[[x509.Certificate], Iterable[str]]] = {
    "uri_san": _uris,
    "dns_san": _hosts,
    "email_san": _addresses,
    "common_name": _common_names,
}
_SPELLED: dict[SubjectFrom, str] = {
    "uri_san": "URI name",
    "dns_san": "DNS name",
    "email_san": "mail address",
    "common_name": "common name",
}


def _invalid(detail: str) -> Refused:
    return Refused(Reason.CERTIFICATE_INVALID, detail)
