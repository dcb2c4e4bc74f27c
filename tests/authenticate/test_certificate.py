"""Client certificates (attacks 43-45)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from authz.authenticate.certificate import CertificateAuthenticator
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.store.records import User
from authz.subject import Subject
from tests.authenticate.fakes import NOW, Clock, MemoryDirectory, at_once, present

SPIFFE = "spiffe://lab.test/worker"
_KEY = ec.generate_private_key(ec.SECP256R1())
_TODAY = datetime.fromtimestamp(NOW, UTC)


def certificate(
    *names: x509.GeneralName,
    common: Sequence[str] = ("alice",),
    begins: datetime = _TODAY - timedelta(days=1),
    ends: datetime = _TODAY + timedelta(days=1),
    usages: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(_KEY.public_key())
        .serial_number(7)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


uri, dns, mail = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name
Kind = Literal["uri_san", "dns_san", "email_san", "common_name"]
ALL = (uri(SPIFFE), dns("Worker.Lab.test"), mail("alice@lab.test"))
FULL = certificate(*ALL)


def judge(pem: str | None, kind: Kind = "uri_san", *users: User, **options: Any) -> Any:
    authenticator = CertificateAuthenticator("mtls", kind, MemoryDirectory(*users), Clock(), **options)
    return at_once(authenticator.authenticate(present(certificate=pem)))


def reason(outcome: Any) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


@pytest.mark.parametrize(
    ("kind", "user"),
    [
        ("uri_san", SPIFFE),
        ("dns_san", "worker.lab.test"),
        ("email_san", "alice@lab.test"),
        ("common_name", "alice"),
    ],
)
def test_each_kind_of_name(kind: Kind, user: str) -> None:
    assert judge(FULL, kind) == Subject(user=f"mtls:{user}", authenticator="mtls")


def test_none_is_no_credential() -> None:
    assert judge(None) is None


def test_43_headers_are_not_looked_at() -> None:
    authenticator = CertificateAuthenticator("mtls", "uri_san", MemoryDirectory(), Clock())
    headers = {"x-forwarded-client-cert": f"URI={SPIFFE}", "x-ssl-cert": FULL, "x-client-cert": FULL}
    assert at_once(authenticator.authenticate(present(headers))) is None


BAD: dict[str, tuple[Kind, str, Reason]] = {
    "no such name": ("uri_san", certificate(dns("a.test")), Reason.CERTIFICATE_INVALID),
    "no names at all": ("dns_san", certificate(), Reason.CERTIFICATE_INVALID),
    "44 two": ("uri_san", certificate(uri("spiffe://a"), uri("spiffe://b")), Reason.CERTIFICATE_INVALID),
    "44 two hosts": ("dns_san", certificate(dns("a.test"), dns("b.test")), Reason.CERTIFICATE_INVALID),
    "44 two common names": ("common_name", certificate(common=("a", "b")), Reason.CERTIFICATE_INVALID),
    "45 NUL": ("dns_san", certificate(dns("good.test\0.evil.test")), Reason.CERTIFICATE_INVALID),
    "45 line break": ("uri_san", certificate(uri("spiffe://a\r\nx: y")), Reason.CERTIFICATE_INVALID),
    "45 too long": ("uri_san", certificate(uri("spiffe://" + "a" * 300)), Reason.CERTIFICATE_INVALID),
    "45 empty": ("uri_san", certificate(uri("")), Reason.CERTIFICATE_INVALID),
    "45 expired": ("uri_san", certificate(*ALL, ends=_TODAY - timedelta(seconds=1)), Reason.CERTIFICATE_EXPIRED),
    "45 early": (
        "uri_san",
        certificate(*ALL, begins=_TODAY + timedelta(seconds=1)),
        Reason.CERTIFICATE_INVALID,
    ),
    "45 for servers": (
        "uri_san",
        certificate(*ALL, usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
        Reason.CERTIFICATE_INVALID,
    ),
    "no certificate": ("uri_san", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", Reason.CERTIFICATE_INVALID),
    "text": ("uri_san", "alice", Reason.CERTIFICATE_INVALID),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_certificates(name: str) -> None:
    kind, pem, expected = BAD[name]
    assert reason(judge(pem, kind)) is expected


def test_what_it_is_for_need_not_be_said() -> None:
    assert isinstance(judge(certificate(*ALL, usages=())), Subject)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert isinstance(judge(certificate(*ALL, usages=usages)), Subject)


def test_one_name_twice_is_one_name() -> None:
    assert isinstance(judge(certificate(uri(SPIFFE), uri(SPIFFE))), Subject)
    assert isinstance(judge(certificate(dns("A.test"), dns("a.test")), "dns_san"), Subject)


def test_it_ends_by_our_clock_though_it_was_seen_before() -> None:
    clock = Clock()
    authenticator = CertificateAuthenticator("mtls", "uri_san", MemoryDirectory(), clock)
    presented = present(certificate=FULL)
    for _ in range(2):
        assert isinstance(at_once(authenticator.authenticate(presented)), Subject)
    clock.forward(86_401)
    assert reason(at_once(authenticator.authenticate(presented))) is Reason.CERTIFICATE_EXPIRED


def test_mapped_users_have_their_records() -> None:
    alice = User(name="alice", team="nlp", roles=frozenset({"ml"}))
    found = judge(FULL, "common_name", alice, map_users=True)
    assert (found.user, found.team, found.roles) == ("alice", "nlp", {"ml"})
    gone = User(name="alice", disabled=True)
    assert reason(judge(FULL, "common_name", gone, map_users=True)) is Reason.USER_DISABLED


def test_no_certificate_makes_a_user_of_another_source() -> None:
    assert reason(judge(certificate(common=("sso:alice",)), "common_name", map_users=True)) is (
        Reason.CERTIFICATE_INVALID
    )
    assert judge(certificate(common=("sso:alice",)), "common_name").user == "mtls:sso:alice"
