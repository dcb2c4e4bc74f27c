"""What is read of a certificate that proves a gateway."""

import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from authz.transport.peer_certificate import from_der, of_grpc, of_tls
from tests.support.certificates import Authority, Pair

DNS, URI = x509.DNSName, x509.UniformResourceIdentifier
NAMES: dict[str, tuple[list[x509.GeneralName], str, set[str]]] = {
    "DNS names": ([DNS("Edge.Lab"), DNS("b.lab")], "c.lab", {"edge.lab", "b.lab"}),
    "URIs": ([URI("spiffe://lab/Edge")], "c.lab", {"spiffe://lab/Edge"}),
    "both": ([DNS("edge.lab"), URI("spiffe://lab/edge")], "", {"edge.lab", "spiffe://lab/edge"}),
    "the common name alone": ([], "Edge.Lab", {"edge.lab"}),
    "nothing": ([], "", set()),
    "no common name beside an address": (
        [x509.IPAddress(ipaddress.ip_address("10.0.0.1"))],
        "edge.lab",
        set(),
    ),
    "no common name beside a mail address": ([x509.RFC822Name("a@edge.lab")], "edge.lab", set()),
    "no common name beside a directory name": (
        [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge.lab")]))],
        "edge.lab",
        set(),
    ),
    "no common name beside another name": (
        [x509.OtherName(ObjectIdentifier("1.2.3.4"), b"\x0c\x08edge.lab")],
        "edge.lab",
        set(),
    ),
    "a URI without a scheme": ([URI("edge.lab")], "edge.lab", set()),
    "a DNS name that is a URI": ([DNS("spiffe://lab/edge")], "", set()),
    "a common name that is a URI": ([], "spiffe://lab/edge", set()),
}


@pytest.mark.parametrize("case", NAMES)
def test_the_names(tmp_path: Path, case: str) -> None:
    names, common, expected = NAMES[case]
    read = from_der(der(Authority(tmp_path).issue("edge", names, common=common)))
    assert read is not None
    assert read.names == expected


def test_a_fingerprint_and_a_time(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("edge", days=1)
    read = of_grpc({"x509_pem_cert": [pair.cert.read_bytes()], "x509_common_name": [b"another"]})
    assert read is not None
    assert read.fingerprint == pair.fingerprint
    assert read.is_valid(read.not_before)
    assert not read.is_valid(read.not_before - 1)
    assert not read.is_valid(read.not_after + 1)


@pytest.mark.parametrize("junk", [b"", b"0", b"\x30\x82\xff\xff", b"0" * 100_000])
def test_what_is_none(junk: bytes) -> None:
    assert from_der(junk) is None
    assert of_grpc({"x509_pem_cert": [junk]}) is None


def test_nothing_shown() -> None:
    assert of_tls(None) is None
    assert of_grpc({}) is None
    assert of_grpc({"x509_pem_cert": []}) is None
    assert of_grpc({"transport_security_type": [b"ssl"]}) is None


def test_two_at_once_are_none(tmp_path: Path) -> None:
    pem = Authority(tmp_path).issue("edge").cert.read_bytes()
    assert of_grpc({"x509_pem_cert": [pem, pem]}) is None


def der(pair: Pair) -> bytes:
    return x509.load_pem_x509_certificate(pair.cert.read_bytes()).public_bytes(Encoding.DER)
