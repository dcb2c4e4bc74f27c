import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from authz.transport.certificate import from_base64, from_escaped_pem, from_forwarded


def make(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


DER, OTHER = make("alice"), make("mallory")
PEM = ssl.DER_cert_to_PEM_cert(DER)
BASE64 = b64encode(DER).decode()


def test_every_spelling_gives_the_same_pem() -> None:
    assert from_escaped_pem(quote(PEM)) == PEM
    assert from_escaped_pem(quote(PEM + ssl.DER_cert_to_PEM_cert(OTHER))) == PEM
    assert from_escaped_pem(quote(PEM.replace("\n", "\r\n"))) == PEM
    assert from_base64(BASE64) == PEM
    assert from_base64(f"{BASE64},{b64encode(OTHER).decode()}") == PEM
    assert (
        from_forwarded(f'By=spiffe://x;Hash=00;Cert="{quote(PEM, safe="")}";Subject="CN=alice,O=x";URI=')
        == PEM
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{http.request.tls.client.certificate_der_base64}",
        "AAAA",
        BASE64[:-8] + "????",
        b64encode(b"x" * 300).decode(),
        "-----BEGIN CERTIFICATE-----",
        BASE64 * 200,
    ],
    ids=[f"attack-45-{what}" for what in ("empty", "placeholder", "short", "odd", "no-der", "head", "long")],
)
def test_what_is_no_certificate_is_none(text: str) -> None:
    assert from_base64(text) is None
    assert from_escaped_pem(text) is None
    assert (
        from_escaped_pem(quote(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----")) is None
        or BASE64 in text
    )


def test_text_before_the_certificate_is_refused() -> None:
    assert from_escaped_pem(quote("junk " + PEM)) is None


@pytest.mark.parametrize(
    "text",
    [
        f'Cert="{quote(PEM, safe="")}",Cert="{quote(PEM, safe="")}"',
        f'Hash=1,Hash=2;Cert="{quote(PEM, safe="")}"',
        f'Cert="{quote(PEM, safe="")}";Cert="{quote(PEM, safe="")}"',
        f'Subject="\\";Cert=\\"x";Cert="{quote(PEM, safe="")}"',
        f'Subject="x;Cert="{quote(PEM, safe="")}"',
        f"Cert={quote(PEM, safe='')}",
        "Hash=1",
        "",
    ],
    ids=[f"attack-44-{number}" for number in range(8)],
)
def test_an_ambiguous_xfcc_names_nobody(text: str) -> None:
    assert from_forwarded(text) is None


def test_a_certificate_inside_a_quoted_subject_is_not_taken() -> None:
    inner = quote(ssl.DER_cert_to_PEM_cert(OTHER), safe="")
    assert from_forwarded(f'Subject="x;Cert={inner}";Cert="{quote(PEM, safe="")}"') == PEM
